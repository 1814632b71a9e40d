"""The tools that language models can use over MCP, and what their answers hold.

None of them deletes anything, stops a job or gives a file away.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.api.body import Body
from app.services.doors import SAMPLE
from app.services.services import Services

Json = dict[str, Any]
Call = Callable[[Services, Any], Awaitable[Json]]

MOST_LISTED = 50
NEIGHBOR_FIELDS = ("rank", "chunk_id", "document", "distance", "text", "continuation")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """One tool."""

    name: str
    description: str
    arguments: type[Body]
    call: Call
    writes: bool = False
    """Whether it writes texts or starts work."""


class Nothing(Body):
    """No arguments."""


class CorpusId(Body):
    """Names a corpus."""

    corpus_id: str = Field(description="Id of the corpus; see list_corpora.")


class Search(CorpusId):
    """Names a corpus and what to look for."""

    text: str = Field(description="What to look for, in the words of the documents.")
    k: int = Field(5, ge=1, le=100, description="How many chunks to return.")


class ChunkId(CorpusId):
    """Names a chunk of a corpus."""

    chunk_id: int = Field(ge=0, description="Id of the chunk; search returns it.")


class RunId(Body):
    """Names a run."""

    run_id: str = Field(description="Id of the training run; see list_runs.")


class Metrics(RunId):
    """Names a run and a measured value."""

    name: str = Field(
        "train_loss", description="For example train_loss, val_loss_on or val_loss_off."
    )
    max_points: int = Field(50, ge=2, le=500, description="Most points to return.")


class JobId(Body):
    """Names a job."""

    job_id: str = Field(
        description="Id of the job; list_jobs and the tools that start work have it."
    )


class GenerationId(Body):
    """Names a text."""

    generation_id: str = Field(description="Id of the text; see list_generations.")


class NewText(RunId):
    """Says what to write."""

    prompt: str = Field(description="The beginning of the text.")
    max_new_tokens: int = Field(128, ge=1, le=2048, description="Most tokens to write.")
    temperature: float = Field(0.8, ge=0, le=10, description="0 takes the likeliest tokens.")
    seed: int = Field(0, ge=0, le=2**53, description="The same seed writes the same text.")
    num_neighbors: int | None = Field(None, description="Neighbors read for each chunk.")
    retrieval: Literal["on", "off"] = Field("on", description="Whether to read neighbors.")
    corpus_id: str | None = Field(
        None, description="Corpus to retrieve from; none is the one of the run."
    )


class NewBranch(GenerationId):
    """Says where a text takes another way."""

    chunk_index: int = Field(ge=0, description="First chunk that is written anew.")
    seed: int | None = Field(None, ge=0, le=2**53, description="Seed of the new text.")
    exclude_chunks: list[int] = Field(
        default_factory=list, description="Ids of chunks that must not be retrieved."
    )
    exclude_documents: list[str] = Field(
        default_factory=list, description="Documents that nothing may be retrieved from."
    )


class NewCorpus(Body):
    """Names a corpus that is filled with the built-in sample."""

    name: str = Field(description="Name for people.")


class NewRun(CorpusId):
    """Says what to train."""

    name: str = Field(description="Name for people.")
    preset: str | None = Field(None, description="Size of the model, such as tiny or small.")
    max_steps: int | None = Field(None, description="Last step; none is that of the preset.")


def choose_tools(mode: str) -> dict[str, Tool]:
    """Return the tools of a mode by name: those that read, and with ``write`` all."""
    return {tool.name: tool for tool in TOOLS if mode == "write" or not tool.writes}


def brief(generation: Mapping[str, Any]) -> Json:
    """Return a text with what a reader needs: no token ids and no log-probabilities."""
    kept = {
        name: generation[name]
        for name in ("id", "state", "message", "run_id", "corpus_id", "prompt", "text", "seed")
        if name in generation
    }
    for mode in ("on", "off"):
        if mode in generation:
            kept[mode] = brief(generation[mode])
    if "chunks" in generation:
        kept["chunks"] = [_brief_chunk(chunk) for chunk in generation["chunks"]]
    return kept


def _brief_chunk(chunk: Mapping[str, Any]) -> Json:
    names = ("index", "text", "is_prompt", "mean_nll", "copied_fraction")
    neighbors = [{name: one.get(name) for name in NEIGHBOR_FIELDS} for one in chunk["neighbors"]]
    return {**{name: chunk.get(name) for name in names}, "neighbors": neighbors}


async def _write(services: Services, start: Callable[[], Json]) -> Json:
    written = await services.generations.write(start)
    return brief(await run_in_threadpool(services.generations.result, written))


async def _generate(services: Services, wanted: NewText) -> Json:
    sampling = wanted.model_dump(
        include={"max_new_tokens", "temperature", "seed", "num_neighbors"}, exclude_none=True
    )
    return await _write(
        services,
        lambda: services.generations.start(
            run_id=wanted.run_id,
            prompt=wanted.prompt,
            corpus_id=wanted.corpus_id,
            retrieval=wanted.retrieval,
            sampling=sampling,
        ),
    )


async def _branch(services: Services, wanted: NewBranch) -> Json:
    return await _write(services, lambda: services.generations.branch(**wanted.model_dump()))


async def _create_corpus(services: Services, wanted: NewCorpus) -> Json:
    return await run_in_threadpool(services.corpora.create, wanted.name, sample=SAMPLE)


async def _start_run(services: Services, wanted: NewRun) -> Json:
    training = {} if wanted.max_steps is None else {"max_steps": wanted.max_steps}
    return await run_in_threadpool(
        services.runs.create, wanted.name, wanted.corpus_id, preset=wanted.preset, training=training
    )


def _simple(call: Callable[[Services, Any], Any], name: str | None = None) -> Call:
    """Return a tool's work made of one call of a service; a list is named in the answer."""

    async def made(services: Services, wanted: Any) -> Json:
        answer: Json = await run_in_threadpool(call, services, wanted)
        return answer if name is None else {name: answer}

    return made


TOOLS = (
    Tool(
        name="list_corpora",
        description="List the text corpora with their state and counts, the newest first.",
        arguments=Nothing,
        call=_simple(lambda services, _: services.corpora.list_corpora(), "corpora"),
    ),
    Tool(
        name="get_corpus",
        description="Get one corpus: state, settings, number of documents and chunks.",
        arguments=CorpusId,
        call=_simple(lambda services, wanted: services.corpora.get(wanted.corpus_id)),
    ),
    Tool(
        name="search",
        description="Find the passages of a corpus that are nearest to a text. Each has its "
        "document, its place in characters, its distance (lower is nearer), its text and the text "
        "after it.",
        arguments=Search,
        call=_simple(
            lambda services, wanted: services.corpora.search(
                wanted.corpus_id, wanted.text, wanted.k
            ),
            "neighbors",
        ),
    ),
    Tool(
        name="get_chunk",
        description="Get one passage of a corpus with its place, its continuation and the passages "
        "of other documents that are nearest to it.",
        arguments=ChunkId,
        call=_simple(
            lambda services, wanted: services.corpora.chunk(wanted.corpus_id, wanted.chunk_id)
        ),
    ),
    Tool(
        name="list_runs",
        description="List the training runs with state, step and settings, the newest first.",
        arguments=Nothing,
        call=_simple(lambda services, _: services.runs.list_runs(), "runs"),
    ),
    Tool(
        name="get_run",
        description="Get one training run with its checkpoints, their losses, and its alerts.",
        arguments=RunId,
        call=_simple(lambda services, wanted: services.runs.get(wanted.run_id)),
    ),
    Tool(
        name="get_metrics",
        description="Get a measured value of a run over its steps, thinned.",
        arguments=Metrics,
        call=_simple(
            lambda services, wanted: services.runs.metrics(
                wanted.run_id, wanted.name, max_points=wanted.max_points
            ),
            "points",
        ),
    ),
    Tool(
        name="list_jobs",
        description="List the newest background jobs (builds and training runs) with their state.",
        arguments=Nothing,
        call=_simple(lambda services, _: services.jobs.list_jobs(limit=MOST_LISTED), "jobs"),
    ),
    Tool(
        name="get_job",
        description="Get one background job: its state, stage, progress, and why it failed.",
        arguments=JobId,
        call=_simple(lambda services, wanted: services.jobs.get(wanted.job_id)),
    ),
    Tool(
        name="list_generations",
        description="List the newest texts that were written, without their chunks.",
        arguments=Nothing,
        call=_simple(
            lambda services, _: services.generations.list_generations(MOST_LISTED), "generations"
        ),
    ),
    Tool(
        name="get_generation",
        description="Get a text, chunk by chunk, each with the neighbors that it was written from.",
        arguments=GenerationId,
        call=_simple(
            lambda services, wanted: brief(services.generations.get(wanted.generation_id))
        ),
    ),
    Tool(
        name="generate",
        description="Continue a prompt with the model of a training run, and return the text with "
        "the neighbors of each chunk. Answers when the text is finished, which may take a minute.",
        arguments=NewText,
        call=_generate,
        writes=True,
    ),
    Tool(
        name="branch",
        description="Write a text anew from one of its chunks on, without some of the chunks or "
        "documents it read, or with another seed. The old text stays.",
        arguments=NewBranch,
        call=_branch,
        writes=True,
    ),
    Tool(
        name="create_sample_corpus",
        description="Make a corpus of the built-in sample, the documentation of Python.",
        arguments=NewCorpus,
        call=_create_corpus,
        writes=True,
    ),
    Tool(
        name="build_corpus",
        description="Start the job that chunks, embeds and indexes a corpus; see get_job.",
        arguments=CorpusId,
        call=_simple(lambda services, wanted: services.corpora.build(wanted.corpus_id)),
        writes=True,
    ),
    Tool(
        name="start_run",
        description="Start training a model on a corpus; it waits for the build of the corpus.",
        arguments=NewRun,
        call=_start_run,
        writes=True,
    ),
)
