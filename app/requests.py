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
    """Builds a corpus; settings replace those of the corpus by name."""

    settings: dict[str, Any] | None = None


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


class NewGeneration(Body):
    """Writes a text. Fields left out have the defaults of the sampling settings."""

    run_id: str
    prompt: str
    checkpoint_step: int | None = None
    corpus_id: str | None = None
    retrieval: str = "on"
    stream: bool = False
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    num_neighbors: int | None = None

    def sampling(self) -> dict[str, Any]:
        """Return the sampling settings that were given."""
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "num_neighbors")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


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
