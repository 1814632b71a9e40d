"""What a run is trained with: a preset, what replaces its fields, and facts of the corpus."""

from dataclasses import dataclass
from typing import Any

from app.services.corpora import CorpusService
from app.services.views.system import Preset
from jobs.store.rows import CorpusRow
from jobs.store.store import Store
from retro.config.training import TrainingConfig
from retro.data.tokenizer import choose_vocab_size
from retro.errors import ConfigError, shown
from retro.model.choices import BASE, DEFAULT_PRESETS, kind_of, resolve_choices
from retro.model.costs import num_parameters
from retro.model.kinds import ModelSettings
from retro.model.pretrained.modes import MODES
from retro.model.retro.presets import PRESETS

DEFAULT_PRESET = "tiny"


def asked_for(
    preset: str | None, model: dict[str, Any] | None, training: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the settings of a run as its job and its row keep them."""
    chosen = model or {}
    default = DEFAULT_PRESETS[kind_of(chosen)] if isinstance(chosen, dict) else DEFAULT_PRESET
    return {"preset": preset or default, "model": chosen, "training": training or {}}


def with_base(
    preset: str | None,
    model: dict[str, Any] | None,
    *,
    base: str | None,
    revision: str | None,
    mode: str | None,
) -> tuple[str | None, dict[str, Any] | None]:
    """Return preset and model of a run for which a pretrained model may be named apart.

    Raises:
        ConfigError: It has a mode and no base, or a mode and a preset.
    """
    if base is None:
        if mode is not None or revision is not None:
            raise ConfigError(
                f"mode and revision belong to a pretrained model, got {shown(mode or revision)} "
                f"and no base. Name its base, for example smollm2-135m."
            )
        return preset, model
    if mode is not None and preset is not None:
        raise ConfigError(
            f"A run has either a preset, for RETRO from scratch, or a mode, for a pretrained "
            f"model, got {shown(preset)} and {shown(mode)}. Leave one of them out."
        )
    given = {} if revision is None else {"revision": revision}
    return mode or preset, {**(model or {}), BASE: base, **given}


def list_presets(base: str | None = None) -> list[Preset]:
    """Return the names of the presets, or of the modes of a base, and what they are for."""
    return [Preset.of(item) for item in (MODES if base else PRESETS).values()]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would be trained with."""

    model: ModelSettings
    training: TrainingConfig

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return num_parameters(self.model)


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
    ) -> tuple[ModelSettings, TrainingConfig]:
        """Return the settings that a new run would have, without making it.

        Raises:
            ConfigError: A name is unknown or a value out of range.
            NotFoundError: There is no such corpus.
        """
        return self.of(self._store.get_corpus(corpus_id), asked_for(preset, model, training))

    def of(
        self, corpus: CorpusRow, settings: dict[str, Any]
    ) -> tuple[ModelSettings, TrainingConfig]:
        """Return what the settings of a run amount to on a corpus."""
        for name in ("model", "training"):
            if not isinstance(settings[name], dict):
                raise ConfigError(f"{name} must be an object, got {shown(settings[name])}.")
        built, cut_for = corpus.summary or {}, corpus.settings.get("tokenizer")
        vocab_size = built.get("vocab_size") or corpus.settings.get("vocab_size")
        # RETRO from scratch learns from a copy that is not cut for a pretrained model.
        if vocab_size is None or (cut_for is not None and built.get("tokenizer_source") == cut_for):
            vocab_size = choose_vocab_size(self._corpora.num_bytes(corpus.id))
        return resolve_choices(
            settings["preset"],
            model=settings["model"],
            training=settings["training"],
            num_tokens=vocab_size,
            chunk_size=corpus.settings["chunk_size"],
            num_neighbors=corpus.settings["num_neighbors"],
        )
