"""What is to be written, checked as far as that is possible without the model."""

from dataclasses import dataclass
from typing import Any

from app.errors import ChangeRefusedError, MissingError
from app.services.corpora import CorpusService
from app.services.fit import ModelFacts, check_steering
from app.services.live import RETRIEVAL_MODES
from jobs.home import Home
from jobs.store.rows import GenerationRow
from retro.config.checks import config_to_dict
from retro.config.sampling import SamplingConfig
from retro.corpus.corpus import Corpus
from retro.data.byte_level import check_text
from retro.errors import ConfigError, shown
from retro.generation.steering import Steering, steering_to_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A text to be written."""

    model: ModelFacts
    step: int | None
    """Checkpoint of the model; a pretrained one has none."""
    corpus_id: str | None
    corpus_name: str
    """Empty with retrieval off."""
    corpus_fingerprint: str | None
    """None with retrieval off, which leaves the corpus alone."""
    reads_as_text: bool
    """Whether the corpus was cut for another model, so that texts go between them."""
    prompt: str
    retrieval: str
    config: SamplingConfig
    steering: Steering

    def settings(self) -> dict[str, Any]:
        """Return what is stored of it, as JSON."""
        return {
            **config_to_dict(self.config),
            "stop": list(self.config.stop),
            "retrieval": self.retrieval,
            "checkpoint_step": self.step,
            "corpus_fingerprint": self.corpus_fingerprint,
            "steering": steering_to_dict(self.steering),
            "chunk_size": self.model.chunk_size,
            "reads_as_text": self.reads_as_text,
        }


def check_retrieval(retrieval: object) -> None:
    """Refuse a mode of retrieval that does not exist."""
    if not isinstance(retrieval, str) or retrieval not in RETRIEVAL_MODES:
        modes = ", ".join(repr(mode) for mode in RETRIEVAL_MODES)
        raise ConfigError(f"retrieval must be one of {modes}, got {shown(retrieval)}.")


def make_order(
    home: Home,
    corpora: CorpusService,
    *,
    model: ModelFacts,
    step: int | None,
    corpus_id: str | None,
    prompt: str,
    retrieval: str,
    config: SamplingConfig,
    steering: Steering,
) -> Order:
    """Check what depends on the corpus; with retrieval off, leave the corpus alone.

    Raises:
        ConfigError: Settings contradict each other.
        InputError: Steering names what the corpus does not hold.
        ArtifactMissingError: The corpus has no index.
        MissingError: It is gone.
    """
    if retrieval == "both" and config.num_samples > 1:
        raise ConfigError(
            f"num_samples must be 1 with retrieval 'both', which are two texts already, "
            f"got {config.num_samples}. Choose 'on' or 'off' for several texts."
        )
    for text in (*config.stop, *steering.exclude_documents):
        check_text(text)
    name, corpus = "", None
    if retrieval != "off":
        name, corpus = _check_corpus(home, corpora, model, corpus_id, steering)
    return Order(
        model=model,
        step=step,
        corpus_id=corpus_id,
        corpus_name=name,
        corpus_fingerprint=None if corpus is None else corpus.fingerprint,
        reads_as_text=corpus is not None and _is_foreign(corpus, model),
        prompt=prompt,
        retrieval=retrieval,
        config=config,
        steering=steering,
    )


def _check_corpus(
    home: Home,
    corpora: CorpusService,
    model: ModelFacts,
    corpus_id: str | None,
    steering: Steering,
) -> tuple[str, Corpus]:
    """Return name and content of a corpus that is there."""
    if corpus_id is None:
        raise ConfigError("Retrieval needs a corpus, got none. Choose one or switch it off.")
    name = corpora.get(corpus_id).name
    if not home.corpus_dir(corpus_id).exists():
        raise MissingError(
            f"The files of corpus {name!r} are gone. Choose another corpus, or switch retrieval "
            f"off."
        )
    corpus = corpora.open(corpus_id)
    check_steering(steering, corpus, model)
    return name, corpus


def _is_foreign(corpus: Corpus, model: ModelFacts) -> bool:
    known = model.fingerprint
    if known is None:
        # Tokenizers that are made here have a token for padding, those of pretrained models none.
        return corpus.database.pad_id >= 0
    return (known, model.chunk_size) != (corpus.tokenizer.fingerprint, corpus.database.chunk_size)


def check_version(parent: GenerationRow, order: Order) -> None:
    """Refuse chunk ids that come from another version of the corpus, where they mean others.

    Raises:
        ChangeRefusedError: The corpus was built again since the parent was written.
    """
    known, found = parent.settings.get("corpus_fingerprint"), order.corpus_fingerprint
    given = (one.chunk_id for neighbors in order.steering.given.values() for one in neighbors)
    names_chunks = bool(order.steering.exclude_chunks) or any(id is not None for id in given)
    if names_chunks and known is not None and found is not None and known != found:
        raise ChangeRefusedError(
            f"The corpus must still be version {known[:12]}, from which this text was written, "
            f"to exclude or choose chunks of it, but it was built again and is now {found[:12]}. "
            f"Exclude documents instead, or write the text again."
        )
