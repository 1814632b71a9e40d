"""Bodies of REST requests; unknown fields are refused."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Body(BaseModel):
    """Base of all bodies: no field is ignored, no value is bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_half_characters(cls, values: Any) -> Any:
        # JSON can spell them, but neither the database nor a file can hold them.
        if not _is_storable(values):
            raise ValueError("free of halves of surrogate pairs")
        return values


class NewCorpus(Body):
    """Makes a corpus, empty or filled with a built-in sample."""

    name: str
    sample: str | None = None
    settings: dict[str, Any] | None = None


class BuildRequest(Body):
    """Builds a corpus; settings replace those of the corpus by name.

    Two settings are for this build alone: ``tokenizer_run_id``, the run whose tokenizer and
    chunk size the corpus takes, and ``new_tokenizer``, true to train another one.
    """

    settings: dict[str, Any] | None = None


class CopyRequest(Body):
    """Copies a corpus; with a run, for its model."""

    name: str | None = None
    run_id: str | None = None


class SearchRequest(Body):
    """Looks for the chunks nearest to a text."""

    text: str
    k: int = 5


class NewRun(Body):
    """Starts a training run."""

    name: str
    corpus_id: str
    preset: str | None = None
    model: dict[str, Any] | None = None
    training: dict[str, Any] | None = None


class RunChange(Body):
    """Renames a run."""

    name: str


class Sampling(Body):
    """How tokens are drawn; fields left out have the defaults of the sampling settings."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop: list[str] | None = None
    seed: int | None = None
    num_samples: int | None = None
    num_neighbors: int | None = None

    def sampling(self) -> dict[str, Any]:
        """Return the sampling settings that were given."""
        values = {name: getattr(self, name) for name in Sampling.model_fields}
        return {name: value for name, value in values.items() if value is not None}


class NewGeneration(Sampling):
    """Writes a text; ``stream`` answers with server-sent events.

    ``steering`` has ``exclude_chunks``, ``exclude_documents`` and ``given``, which maps positions
    of chunks to exactly the neighbors they read.
    """

    run_id: str
    prompt: str
    checkpoint_step: int | None = None
    corpus_id: str | None = None
    retrieval: str = "on"
    steering: dict[str, Any] | None = None
    stream: bool = False


class NewBranch(Sampling):
    """Writes a text that takes over the chunks of another one before ``chunk_index``.

    Fields left out are as they were. Exclusions add to those of before. ``neighbors`` are exactly
    those that the chunk at ``chunk_index`` reads, each with ``chunk_id`` or ``text`` and
    ``continuation``.
    """

    chunk_index: int
    variant: str | None = None
    retrieval: str | None = None
    exclude_chunks: list[int] = []
    exclude_documents: list[str] = []
    neighbors: list[dict[str, Any]] | None = None
    stream: bool = False


class Continuation(Body):
    """Goes on after the last token of a text."""

    max_new_tokens: int | None = None
    variant: str | None = None
    stream: bool = False


RunAction = Literal["pause", "resume", "stop", "duplicate"]


def _is_storable(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item):
            return False
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item
    return True
