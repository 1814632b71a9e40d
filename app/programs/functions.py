"""What ``gradio_client`` and assistants can do in one call, where that is no REST route.

Files are uploaded, and everything is deleted, over the REST API alone: Gradio would lose the
folders of an upload, and its functions are open to whoever lists them.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.figures import mode_of
from app.programs.operation import Family
from app.services.doors import SAMPLE
from app.services.following import Reader
from app.services.live import variants_of
from app.services.services import Services
from app.services.views import generations as views
from app.services.views.corpora import Corpus
from app.services.views.documents import Neighbors
from app.services.views.jobs import Job, Jobs
from app.services.views.runs import Points, Run, Runs
from jobs.store.states import GenerationState
from retro.config.sampling import SamplingConfig
from retro.errors import ConfigError, RetroError

FAMILY = Family("functions")
DEFAULTS = SamplingConfig()
MOST_LISTED = 50
MOST_WAIT_S = 600
NEIGHBOR_FIELDS = ("rank", "chunk_id", "document", "distance", "text", "continuation")
MetricName = Annotated[
    str, Field(description="For example train_loss, val_loss_on or val_loss_off.")
]
Seed = Annotated[int, Field(ge=0, le=2**53)]


class WritingFailedError(RetroError):
    """A text ended without success; the message says why."""


def brief(generation: Mapping[str, Any]) -> dict[str, Any]:
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


def _brief_chunk(chunk: Mapping[str, Any]) -> dict[str, Any]:
    names = ("index", "text", "is_prompt", "mean_nll", "copied_fraction")
    neighbors = [{name: one.get(name) for name in NEIGHBOR_FIELDS} for one in chunk["neighbors"]]
    return {**{name: chunk.get(name) for name in names}, "neighbors": neighbors}


@FAMILY.call(
    function_name="generate",
    tool="generate",
    view=views.Generation,
    tool_view=brief,
    tool_arguments={
        "run_id": (str, ...),
        "prompt": (str, ...),
        "max_new_tokens": (Annotated[int, Field(ge=1, le=2048)], 128),
        "temperature": (Annotated[float, Field(ge=0, le=10)] | None, None),
        "seed": (Seed, 0),
        "num_neighbors": (int | None, None),
        "retrieval": (Literal["on", "off"], "on"),
        "corpus_id": (str | None, None),
    },
)
async def generate(
    services: Services,
    run_id: str,
    prompt: str,
    max_new_tokens: int = DEFAULTS.max_new_tokens,
    temperature: float | None = None,
    top_k: int = DEFAULTS.top_k,
    top_p: float | None = None,
    min_p: float = DEFAULTS.min_p,
    repetition_penalty: float | None = None,
    seed: int = DEFAULTS.seed,
    num_neighbors: int = DEFAULTS.num_neighbors,
    num_samples: int = DEFAULTS.num_samples,
    stop: list[str] = [],  # noqa: B006  # read only; the client must see a list
    retrieval: str = "on",
    corpus_id: str | None = None,
    checkpoint_step: int | None = None,
) -> Any:
    """Continue a prompt and return the text with the neighbors that conditioned each chunk.

    Answers when the text is finished, which may take a minute.
    """
    return await _written(
        services,
        run_id=run_id,
        prompt=prompt,
        retrieval=retrieval,
        corpus_id=corpus_id,
        checkpoint_step=checkpoint_step,
        sampling={
            "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k,
            "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty,
            "seed": seed, "num_neighbors": num_neighbors, "num_samples": num_samples, "stop": stop,
        },
    )  # fmt: skip


@FAMILY.call(function_name="generate_stream")
async def generate_stream(
    services: Services,
    run_id: str,
    prompt: str,
    max_new_tokens: int = DEFAULTS.max_new_tokens,
    temperature: float | None = None,
    top_k: int = DEFAULTS.top_k,
    top_p: float | None = None,
    min_p: float = DEFAULTS.min_p,
    repetition_penalty: float | None = None,
    seed: int = DEFAULTS.seed,
    num_neighbors: int = DEFAULTS.num_neighbors,
    stop: list[str] = [],  # noqa: B006  # read only; the client must see a list
    retrieval: str = "on",
    corpus_id: str | None = None,
    checkpoint_step: int | None = None,
) -> AsyncIterator[str]:
    """Continue a prompt and yield the text so far, again and again, while it is written.

    A client that goes away does not stop the text. With retrieval "both", it is the text with
    retrieval on.
    """
    with services.generations.reader() as reader:
        started = await run_in_threadpool(
            lambda: services.generations.start(
                run_id=run_id,
                prompt=prompt,
                retrieval=retrieval,
                corpus_id=corpus_id,
                checkpoint_step=checkpoint_step,
                sampling={
                    "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k,
                    "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty,
                    "seed": seed, "num_neighbors": num_neighbors, "stop": stop,
                },
            )
        )  # fmt: skip
        await reader.open(started.id)
        async for text in _texts(services, started, reader):
            yield text


@FAMILY.call(
    function_name="branch",
    tool="branch",
    view=views.Generation,
    tool_view=brief,
    tool_arguments={
        "generation_id": (str, ...),
        "chunk_index": (Annotated[int, Field(ge=0)], ...),
        "seed": (Seed | None, None),
        "exclude_chunks": (list[int], []),
        "exclude_documents": (list[str], []),
    },
)
async def branch(
    services: Services,
    generation_id: str,
    chunk_index: int,
    variant: str | None = None,
    seed: int | None = None,
    exclude_chunks: list[int] = [],  # noqa: B006  # read only; the client must see a list
    exclude_documents: list[str] = [],  # noqa: B006  # the same
    neighbors: list[dict[str, Any]] | None = None,
    retrieval: str | None = None,
    num_neighbors: int | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
) -> Any:
    """Write a text anew from one of its chunks on, and return it when it is finished.

    The old text stays. What is left out stays as it was; without a seed it is that of before if
    something else was changed, so that only the change shows, and otherwise the next one.
    """
    written = await services.generations.write(
        lambda: services.generations.branch(
            generation_id,
            chunk_index=chunk_index,
            variant=variant,
            retrieval=retrieval,
            seed=seed,
            exclude_chunks=exclude_chunks,
            exclude_documents=exclude_documents,
            neighbors=neighbors,
            num_neighbors=num_neighbors,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )
    )
    return await _result(services, written)


@FAMILY.call(tool="get_generation", reads=True, view=views.Generation, tool_view=brief)
def get_generation(services: Services, generation_id: str) -> Any:
    """A text, chunk by chunk, each with the neighbors that it was written from."""
    return services.generations.get(generation_id)


@FAMILY.call(tool="list_generations", reads=True, view=views.Generations, items="generations")
def list_generations(services: Services) -> Any:
    """The newest texts that were written, without their chunks."""
    return services.generations.list_generations(MOST_LISTED)


@FAMILY.call(function_name="search", tool="search", reads=True, view=Neighbors, items="neighbors")
def search(
    services: Services, corpus_id: str, text: str, k: Annotated[int, Field(ge=1, le=100)] = 5
) -> Any:
    """Find the chunks of a corpus that are nearest to a text.

    Each has its document, its place in characters, its distance (lower is nearer), its text and the
    text after it.
    """
    return services.corpora.search(corpus_id, text, k)


@FAMILY.call(function_name="list_runs", tool="list_runs", reads=True, view=Runs, items="runs")
def list_runs(services: Services) -> Any:
    """All training runs with state, step and settings, the newest first."""
    return services.runs.list_runs()


@FAMILY.call(tool="get_metrics", reads=True, view=Points, items="points")
def get_metrics(
    services: Services,
    run_id: str,
    name: MetricName = "train_loss",
    max_points: Annotated[int, Field(ge=2, le=500)] = 50,
) -> Any:
    """A measured value of a run over its steps, thinned."""
    return services.curves.metrics(run_id, name, max_points=max_points)


@FAMILY.call(tool="list_jobs", reads=True, view=Jobs, items="jobs")
def list_jobs(services: Services) -> Any:
    """The newest background jobs (builds and training runs) with their state."""
    return services.jobs.list_jobs(limit=MOST_LISTED)


@FAMILY.call(function_name="create_corpus", view=Corpus)
def create_corpus(services: Services, name: str, sample: str | None = SAMPLE) -> Any:
    """Make a corpus, filled with a built-in sample.

    Without a sample it is empty, for files that are uploaded over the REST API.
    """
    return services.corpora.create(name, sample=sample)


@FAMILY.call(tool="create_sample_corpus", view=Corpus)
def create_sample_corpus(services: Services, name: str) -> Any:
    """Make a corpus of the built-in sample, the documentation of Python."""
    return services.corpora.create(name, sample=SAMPLE)


@FAMILY.call(function_name="build_corpus", tool="build_corpus", view=Job)
def build_corpus(services: Services, corpus_id: str) -> Any:
    """Start the job that chunks, embeds and indexes a corpus; see get_job."""
    return services.corpora.build(corpus_id)


@FAMILY.call(function_name="start_run", tool="start_run", view=Run)
def start_run(
    services: Services,
    name: str,
    corpus_id: str,
    preset: str | None = None,
    max_steps: int | None = None,
    base: str | None = None,
    mode: str | None = None,
) -> Any:
    """Start training a model on a corpus; it waits for the build of the corpus.

    Without max_steps, the last step is that of the preset. With base, a pretrained model learns.
    """
    given = {} if max_steps is None else {"max_steps": max_steps}
    return services.runs.create(
        name, corpus_id, preset=preset, training=given, base=base, mode=mode
    )


@FAMILY.call(function_name="wait_for_job", view=Job)
async def wait_for_job(services: Services, job_id: str, timeout_s: int = 60) -> Any:
    """Wait until a job has ended, or until the time is over, and return the job.

    At most 600 seconds; call again to wait longer.
    """
    if not 0 <= timeout_s <= MOST_WAIT_S:
        raise ConfigError(
            f"timeout_s must be between 0 and {MOST_WAIT_S}, got {timeout_s}. Call again to wait "
            f"longer."
        )
    return await services.job_waits.wait(job_id, timeout_s)


async def _written(services: Services, *, sampling: dict[str, Any], **order: Any) -> Any:
    given = {name: value for name, value in sampling.items() if value is not None}
    written = await services.generations.write(
        lambda: services.generations.start(sampling=given, **order)
    )
    return await _result(services, written)


async def _result(services: Services, generation_id: str) -> Any:
    generation = await run_in_threadpool(services.generations.get, generation_id)
    _refuse_failed(generation)
    return generation


def _refuse_failed(generation: views.Generation) -> None:
    if generation.state == GenerationState.FAILED:
        raise WritingFailedError(generation.message)


async def _texts(
    services: Services, started: views.Generation, reader: Reader
) -> AsyncIterator[str]:
    """Yield the first text of a generation so far, whenever there is more of it."""
    shown = variants_of(started.settings)[0]
    finished, partial = "", ""
    async for step in reader.steps():
        for name, value in step.events:
            if value["variant"] != shown:
                continue
            if name == "token":
                partial += value["text"]
            elif name == "chunk_end":
                finished, partial = finished + value["text"], ""
        # Also when there is no more: Gradio sees that a client is gone by what it cannot send.
        yield finished + partial
    generation = await run_in_threadpool(services.generations.get, started.id)
    _refuse_failed(generation)
    yield generation.on.text if mode_of(generation) == "both" else generation.text
