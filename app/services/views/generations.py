"""What the routes of generations answer."""

from typing import Annotated, Literal

from pydantic import ConfigDict

from app.services.views.base import Json, Stored, View, left_out, with_fields_of
from app.services.views.chunks import Chunk
from app.services.views.generation_examples import (
    GENERATION,
    GENERATION_OF_BOTH,
    GENERATION_SUMMARY,
    GENERATION_WITH_SAMPLES,
)
from jobs.store.states import GenerationState
from retro.config.sampling import SamplingConfig
from retro.generation.events import FinishReason

StoredChunks = list[Annotated[Json, Stored(Chunk)]]
"""As the writer stored them; ``OutputChunk.from_dict`` reads them."""


class GivenNeighbor(View):
    """A neighbor that was given by hand."""

    chunk_id: int | None
    """Chunk of the corpus; with a text, the one that was edited; null if written by hand."""
    text: str | None
    """What stands in the place of the chunk; null for the chunk itself."""
    continuation: str
    """What follows the text; empty for the chunk itself, which has its own."""


class Steering(View):
    """What retrieval leaves out, and neighbors that are given by hand."""

    exclude_chunks: list[int]
    """Ids of chunks that are not retrieved, nor as a continuation."""
    exclude_documents: list[str]
    """Paths of documents that nothing is retrieved from."""
    given: dict[str, list[GivenNeighbor]]
    """Position of a chunk of the text, counted from 0, to exactly the neighbors it reads."""


class GenerationSettings(View):
    """How a text is written; settings that came later than a text are missing from it."""

    model_config = with_fields_of(SamplingConfig)

    retrieval: Literal["on", "off", "both"]
    """Whether neighbors are read; ``both`` writes two texts from one seed."""
    checkpoint_step: int | None = left_out()
    """Step of the checkpoint that writes; null for a pretrained model."""
    chunk_size: int = left_out()
    """Tokens per chunk."""
    reads_as_text: bool = left_out()
    """Whether the corpus was cut for another model: its chunks were read as text then, and cut to
    the length of this model's."""
    corpus_fingerprint: str | None = left_out()
    """Version of the corpus, the ``fingerprint`` of its summary; null with retrieval off."""
    steering: Steering = left_out()
    """What retrieval leaves out, and neighbors given by hand."""


class TextEnd(View):
    """How a text of a generation ended."""

    reason: FinishReason
    """``length``: it has ``max_new_tokens``; ``end``: the model wrote the end of the text;
    ``stop``: a stop string appeared; ``stopped``: by a person, or with the app."""
    num_tokens: int
    """Tokens that were written; those of the prompt, or taken over, are not counted."""
    seconds: float
    """Time until it ended, seconds, without loading the model; with retrieval "both", the time
    spent on this text."""
    slid: bool
    """Whether it outgrew the model's window, so that its beginning was forgotten."""


class GenerationResult(View):
    """How the texts ended, by name: ``on`` or ``off``, and ``on:1`` and so on for more samples."""

    __pydantic_extra__: dict[str, TextEnd]

    on: TextEnd = left_out()
    """The text with retrieval, or its first sample."""
    off: TextEnd = left_out()
    """The text without retrieval, or its first sample."""
    seconds: float = left_out()
    """Time of everything, seconds; missing if it was stopped before it began."""


class GenerationSummary(View):
    """A text without its chunks."""

    model_config = ConfigDict(json_schema_extra={"example": GENERATION_SUMMARY})

    id: str
    """Id of the text."""
    run_id: str
    """Run whose model writes it, which may be deleted, or the name of a pretrained model."""
    run_name: str
    """Name of that run."""
    corpus_id: str | None
    """Corpus that it retrieves from, or would with retrieval on; that one may be deleted."""
    state: GenerationState
    """Where it stands; ``running`` while it waits as well; ``interrupted`` when the app ended."""
    message: str
    """Why it has failed or was stopped, for people; otherwise empty."""
    prompt: str
    """What it continues."""
    settings: Annotated[Json, Stored(GenerationSettings)]
    """How it is written."""
    result: Annotated[Json, Stored(GenerationResult)] | None
    """How it ended; null until then, and where the app ended first."""
    created_at: float
    """When it was asked for, UTC seconds."""
    finished_at: float | None
    """When it ended, UTC seconds; null until then."""
    parent_id: str | None
    """Text that it branched from or continues; that one may be deleted."""
    branch_index: int | None
    """Position of the first chunk that it did not take over whole, counted from 0; null where
    there is no such text."""


class Sample(View):
    """One of several texts that are written side by side."""

    text: str
    """What is finished of the text, prompt included."""
    seed: int
    """Seed that it is written with."""
    chunks: StoredChunks
    """Its finished chunks."""


class Side(Sample):
    """The text with retrieval, or the one without."""

    id: str
    """Id of the generation."""
    prompt: str
    """What it continues."""


class Generation(GenerationSummary):
    """A text with its chunks; with retrieval "both" there are two, in ``on`` and ``off``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [GENERATION, GENERATION_WITH_SAMPLES, GENERATION_OF_BOTH]}
    )

    text: str = left_out()
    """What is finished of the text, prompt included; not with retrieval "both"."""
    seed: int = left_out()
    """Seed that it is written with; not with retrieval "both"."""
    chunks: StoredChunks = left_out()
    """Its finished chunks; not with retrieval "both"."""
    samples: list[Sample] = left_out()
    """All texts, if ``num_samples`` is above 1; the first of them is also above."""
    on: Side = left_out()
    """The text with retrieval; only with retrieval "both"."""
    off: Side = left_out()
    """The text without retrieval; only with retrieval "both"."""


class Generations(View):
    """Texts, the newest first."""

    generations: list[GenerationSummary]
    """The texts."""
