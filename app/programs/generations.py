"""What programs can do with texts."""

from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.exports import export_generation
from app.leaving import unless_gone
from app.programs.body import Body, Items
from app.programs.event_stream import EventStream, too_many_as_429
from app.programs.operation import Family
from app.services.services import Services
from app.services.views import generations as views
from app.services.views.examples import RUN_ID

FAMILY = Family("generations", "/generations")


class Sampling(Body):
    """How tokens are drawn; fields left out have the defaults of the sampling settings."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop: Items[str] | None = None
    seed: int | None = None
    num_samples: int | None = None
    num_neighbors: int | None = None
    fast: bool | None = None

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
    exclude_chunks: Items[int] = Field(default_factory=list)
    exclude_documents: Items[str] = Field(default_factory=list)
    neighbors: Items[dict[str, Any]] | None = None
    stream: bool = False


class Continuation(Body):
    """Goes on after the last token of a text."""

    max_new_tokens: int | None = None
    variant: str | None = None
    stream: bool = False


@FAMILY.get("", view=views.Generations, items="generations")
def list_(
    services: Services,
    run_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Any:
    """The newest texts, without their chunks."""
    return services.generations.list_generations(limit, run_id)


@FAMILY.post(
    "",
    view=views.Generation,
    example={
        "run_id": RUN_ID,
        "prompt": "The for statement",
        "max_new_tokens": 128,
        "temperature": 0.8,
        "retrieval": "on",
    },
)
async def create(services: Services, body: NewGeneration, request: Request) -> Any:
    """Write a text; answers when it is finished, or streams events.

    With retrieval "both", one text is under "on" and one under "off", from the same seed.
    """

    def start() -> views.Generation:
        return services.generations.start(
            run_id=body.run_id,
            prompt=body.prompt,
            checkpoint_step=body.checkpoint_step,
            corpus_id=body.corpus_id,
            retrieval=body.retrieval,
            sampling=body.sampling(),
            steering=body.steering,
        )

    if body.stream:
        return EventStream(services.generations, lambda: start().id)
    with too_many_as_429():
        written = await unless_gone(request.receive, services.generations.write(start))
    if written is None:
        return Response()
    return await run_in_threadpool(services.generations.result, written)


@FAMILY.post(
    "/{generation_id}/branch",
    status=202,
    view=views.Generation,
    example={"chunk_index": 2, "exclude_chunks": [17]},
)
async def branch(services: Services, generation_id: str, body: NewBranch) -> Any:
    """Begin a text that takes another way from a chunk on; answers at once, or streams."""
    changes = body.model_dump(exclude={"stream", *Sampling.model_fields}) | body.sampling()

    def start() -> views.Generation:
        return services.generations.branch(generation_id, **changes)

    if body.stream:
        return EventStream(services.generations, lambda: start().id)
    return await run_in_threadpool(start)


@FAMILY.post(
    "/{generation_id}/continue",
    status=202,
    view=views.Generation,
    example={"max_new_tokens": 64},
)
async def go_on(services: Services, generation_id: str, body: Continuation | None = None) -> Any:
    """Begin a text that goes on after the last token; answers at once, or streams."""
    wanted = body or Continuation()

    def start() -> views.Generation:
        return services.generations.continue_text(
            generation_id, max_new_tokens=wanted.max_new_tokens, variant=wanted.variant
        )

    if wanted.stream:
        return EventStream(services.generations, lambda: start().id)
    return await run_in_threadpool(start)


@FAMILY.post("/{generation_id}/stop", view=views.Generation)
def stop(services: Services, generation_id: str) -> Any:
    """Stop writing; what is written stays."""
    return services.generations.stop(generation_id)


@FAMILY.get("/{generation_id}", view=views.Generation, function_name="get_generation")
def get(services: Services, generation_id: str) -> Any:
    """A text as it stands, with its chunks and their neighbors.

    States: running, succeeded, failed, canceled, interrupted. A chunk's neighbors are those that
    conditioned it: they were retrieved with the chunk before. The first has none.
    """
    return services.generations.get(generation_id)


@FAMILY.get("/{generation_id}/events", media_type="text/event-stream")
async def events(services: Services, generation_id: str) -> Response:
    """What happens in a text, from its beginning; many clients may read it at once.

    Server-sent events: start, then for each chunk chunk_start, neighbors, token and chunk_end, and
    at last done, after error if it failed. The data of each is JSON: start has id; chunk_start has
    variant, index and is_prompt; neighbors has variant, index and neighbors; token has variant,
    chunk_index, token_id, text, logprob and run; chunk_end has variant and the fields of a chunk;
    error has detail; done is the text as it is read by its id. The variant is on or off, or on:1
    and so on for more samples. Neighbors and tokens are sent while a text is being written, not
    once it has ended. The text goes on when nobody reads its events.
    """
    return EventStream(services.generations, lambda: generation_id)


@FAMILY.get("/{generation_id}/export", media_type="*/*")
def export(services: Services, generation_id: str, format: str = "json") -> Response:
    """A text as a file: ``json``, ``markdown`` or ``html``.

    The answer is a file to be saved.
    """
    made = export_generation(services.generations.get(generation_id), format)
    return Response(
        made.content,
        media_type=made.media_type,
        headers={
            "content-disposition": f'attachment; filename="{made.file_name}"',
            "cache-control": "no-store",
        },
    )


@FAMILY.delete("/{generation_id}")
def delete(services: Services, generation_id: str) -> None:
    """Delete a text; those that branched from it stay whole.

    Refused while it is being written.
    """
    services.generations.delete(generation_id)
