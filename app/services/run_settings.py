"""What a run is trained with: a preset, what replaces its fields, and facts of the corpus."""

from dataclasses import dataclass
from typing import Any

from app.services.corpora import CorpusService
from app.services.views.system import Preset
from jobs.store.rows import CorpusRow
from jobs.store.store import Store
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.data.tokenizer import choose_vocab_size
from retro.errors import ConfigError, shown
from retro.model.retro.presets import PRESETS, parameter_count, resolve_preset

DEFAULT_PRESET = "tiny"


def asked_for(
    preset: str | None, model: dict[str, Any] | None, training: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the settings of a run as its job and its row keep them."""
    return {"preset": preset or DEFAULT_PRESET, "model": model or {}, "training": training or {}}


def list_presets() -> list[Preset]:
    """Return the names of the presets and what they are for."""
    return [Preset.of(item) for item in PRESETS.values()]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would be trained with."""

    model: ModelConfig
    training: TrainingConfig

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return parameter_count(self.model)


class RunSettings:
    """Works out what a run would be trained with."""

    def __init__(self, store: Store, corpora: CorpusService) -> None:
        self._store = store
        self._corpora = corpora

    def preview(
        self,
        corpus_id: str,
        preset: str,
        training: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
    ) -> Preview:
        """Return what a preset amounts to on a corpus, without making a run."""
        return Preview(*self.resolve(corpus_id, preset, model, training))

    def resolve(
        self,
        corpus_id: str,
        preset: str | None,
        model: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
    ) -> tuple[ModelConfig, TrainingConfig]:
        """Return the settings that a new run would have, without making it.

        Raises:
            ConfigError: A name is unknown or a value out of range.
            NotFoundError: There is no such corpus.
        """
        return self.of(self._store.get_corpus(corpus_id), asked_for(preset, model, training))

    def of(self, corpus: CorpusRow, settings: dict[str, Any]) -> tuple[ModelConfig, TrainingConfig]:
        """Return what the settings of a run amount to on a corpus."""
        for name in ("model", "training"):
            if not isinstance(settings[name], dict):
                raise ConfigError(f"{name} must be an object, got {shown(settings[name])}.")
        built = corpus.summary or {}
        vocab_size = built.get("vocab_size") or corpus.settings.get("vocab_size")
        if vocab_size is None:
            vocab_size = choose_vocab_size(self._corpora.num_bytes(corpus.id))
        return resolve_preset(
            settings["preset"],
            model=settings["model"],
            training=settings["training"],
            num_tokens=vocab_size,
            chunk_size=corpus.settings["chunk_size"],
            num_neighbors=corpus.settings["num_neighbors"],
        )
