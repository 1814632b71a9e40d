"""What programs can do with corpora."""

import time
from typing import Annotated, Any

from fastapi import Path, Query, Request
from starlette.concurrency import run_in_threadpool

from app.multipart import read_files
from app.programs.body import Body
from app.programs.operation import Family
from app.services.services import Services
from app.services.views import corpora as views
from app.services.views import documents as document_views
from app.services.views.examples import RUN_ID
from app.services.views.generations import Generation
from app.services.views.jobs import Job
from app.services.views.runs import Run
from retro.errors import InputError

FAMILY = Family("corpora", "/corpora")
Page = Annotated[int | None, Query(ge=1, le=2**31, description="Counted from 1.")]
Place = Annotated[int | None, Query(ge=0, le=2**53)]
DocumentPath = Annotated[str, Path(description="Relative path of the document, with its slashes.")]
UPLOAD_FORM: dict[str, Any] = {
    "files": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "The files, one part each.",
    },
    "paths": {
        "type": "array",
        "items": {"type": "string"},
        "description": "The relative path of each file, in the same order; the names of the files "
        "where it is left out.",
    },
    "text_field": {
        "type": "string",
        "default": "text",
        "description": "The field of .jsonl lines that holds their text.",
    },
    "keep_duplicates": {
        "type": "boolean",
        "default": False,
        "description": "Whether a text that is there already is stored again under its other path.",
    },
}


class NewCorpus(Body):
    """Makes a corpus, empty or filled with a built-in sample."""

    name: str
    sample: str | None = None
    settings: dict[str, Any] | None = None


class CorpusChange(Body):
    """Renames a corpus, or changes the settings of its next build by name."""

    name: str | None = None
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
    """Looks for the chunks nearest to a text, or to a chunk of the corpus."""

    text: str | None = None
    chunk_id: int | None = None
    k: int = 5


@FAMILY.get(
    "",
    view=views.Corpora,
    items="corpora",
    function_name="list_corpora",
    tool="list_corpora",
)
def list_(services: Services) -> Any:
    """All corpora with state, counts and settings, the newest first."""
    return services.corpora.list_corpora()


@FAMILY.post(
    "",
    status=201,
    view=views.Corpus,
    example={"name": "Notes", "settings": {"chunk_size": 64}},
)
def create(services: Services, body: NewCorpus) -> Any:
    """Make a corpus, empty or, with `sample`, filled with a built-in sample.

    `settings` are those of its builds; what is left out has its default.

    The sample is called "python-docs". Add files, then build.
    """
    return services.corpora.create(body.name, sample=body.sample, settings=body.settings)


@FAMILY.get("/{corpus_id}", view=views.Corpus, function_name="get_corpus", tool="get_corpus")
def get(services: Services, corpus_id: str) -> Any:
    """State, counts, settings, facts of the last build, and what has changed since then.

    With has_changes, documents were added, replaced or removed after the last build.
    """
    return services.corpora.get(corpus_id)


@FAMILY.patch(
    "/{corpus_id}",
    view=views.Corpus,
    example={"name": "letters", "settings": {"num_neighbors": 4}},
)
def change(services: Services, corpus_id: str, body: CorpusChange) -> Any:
    """Change the name, or settings for the next build; what is left out stays as it is."""
    return services.corpora.change(corpus_id, name=body.name, settings=body.settings)


@FAMILY.delete("/{corpus_id}")
def delete(services: Services, corpus_id: str) -> None:
    """Delete a corpus and free its disk.

    Refused while a run or an unfinished job needs it.
    """
    services.corpora.delete(corpus_id)


@FAMILY.get("/{corpus_id}/versions", view=views.CorpusVersions, items="versions")
def versions(services: Services, corpus_id: str) -> Any:
    """What the corpus was after each build that made something new, the newest first.

    A version is `current`, or `kept` because runs were trained on it, or `replaced`.
    """
    return services.corpora.versions(corpus_id)


@FAMILY.get("/{corpus_id}/sizes", view=views.CorpusSizes, items="bytes")
def sizes(services: Services, corpus_id: str) -> Any:
    """Bytes by part: documents, tokenizer, database, keys, index, kept versions."""
    return services.corpora.sizes(corpus_id)


@FAMILY.post(
    "/{corpus_id}/files",
    view=document_views.UploadReport,
    form=UPLOAD_FORM,
    example={"files": ["(a file)"], "paths": ["notes/first.txt"]},
)
async def add_files(services: Services, corpus_id: str, request: Request) -> Any:
    """Take files: parts `files`, and a part `paths` for each with its relative path.

    Zip and gzip files are unpacked. A line of a `.jsonl` file is a document; `text_field` names the
    field that holds its text. A text that the corpus has under another path is skipped, unless
    `keep_duplicates` is true.

    Every file is either `accepted` (added, replaced or unchanged) or `skipped` with a reason.
    """
    await run_in_threadpool(services.uploads.check_open, corpus_id)
    async with read_files(request, services.uploads.limits) as wanted, services.uploads.turns:
        return await run_in_threadpool(
            services.uploads.add,
            corpus_id,
            wanted.files,
            text_field=wanted.text_field,
            keep_duplicates=wanted.keep_duplicates,
        )


@FAMILY.post("/{corpus_id}/build", status=202, view=Job, example={"settings": {"chunk_size": 64}})
def build(services: Services, corpus_id: str, body: BuildRequest | None = None) -> Any:
    """Submit a build; what is unchanged since the last one is not computed again.

    Answers at once with the job; ask for /api/v1/jobs/{job_id} until it has ended.
    """
    return services.corpora.build(corpus_id, body.settings if body else None)


@FAMILY.post(
    "/{corpus_id}/copy",
    status=202,
    view=views.Corpus,
    example={"name": "Notes for the first model", "run_id": RUN_ID},
)
def copy(services: Services, corpus_id: str, body: CopyRequest | None = None) -> Any:
    """Copy the documents into a new corpus and submit its build.

    With `run_id`, the copy takes tokenizer and chunk size of that run's model, so that the model
    can write from it.
    """
    wanted = body or CopyRequest()
    return services.corpora.copy(corpus_id, name=wanted.name, run_id=wanted.run_id)


@FAMILY.post("/{corpus_id}/train", status=202, view=Run)
def build_and_train(services: Services, corpus_id: str) -> Any:
    """Submit a build, if one is needed, and a run with defaults that waits for it."""
    return services.doors.build_and_train(corpus_id)


@FAMILY.post("/{corpus_id}/write", status=202, view=Generation)
def write(services: Services, corpus_id: str) -> Any:
    """Start a text with the pretrained model, with a prompt from held-out text."""
    return services.doors.write_from(corpus_id)


@FAMILY.get("/{corpus_id}/documents", view=document_views.DocumentPage)
def documents(
    services: Services,
    corpus_id: str,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    contains: Annotated[str, Query(max_length=200, description="Part of the path.")] = "",
) -> Any:
    """Documents by path, with their chunks and whether they are held out, page by page."""
    return services.corpora.documents(corpus_id, limit, offset, contains)


@FAMILY.get("/{corpus_id}/documents/{path:path}", view=document_views.DocumentText)
def document(
    services: Services,
    corpus_id: str,
    path: DocumentPath,
    page: Page = None,
    chunk_id: Place = None,
    start: Place = None,
) -> Any:
    """A page of the text with its chunks: page `page`, or that of a chunk or a character.

    Positions are characters of the document, counted from 0.
    """
    return services.corpora.document(corpus_id, path, page=page, chunk_id=chunk_id, start=start)


@FAMILY.delete("/{corpus_id}/documents/{path:path}")
def remove_document(services: Services, corpus_id: str, path: DocumentPath) -> None:
    """Remove a document; it leaves the index with the next build."""
    services.corpora.remove_document(corpus_id, path)


@FAMILY.get("/{corpus_id}/chunks/{chunk_id}", view=document_views.CorpusChunk, tool="get_chunk")
def chunk(
    services: Services,
    corpus_id: str,
    chunk_id: Annotated[int, Path(description="Row of the retrieval database; search has it.")],
) -> Any:
    """One chunk with its place, its continuation and the neighbors stored with it.

    start and end are characters of the document; distances are squared L2, lower is nearer.
    """
    return services.corpora.chunk(corpus_id, chunk_id)


@FAMILY.post(
    "/{corpus_id}/search",
    reads=True,
    view=document_views.Neighbors,
    example={"text": "how to iterate over a sequence", "k": 3},
)
def search(services: Services, corpus_id: str, body: SearchRequest) -> Any:
    """Find the chunks nearest to `text`, or to the chunk `chunk_id`, with continuations.

    Distances are squared L2, lower is nearer.
    """
    if (body.text is None) == (body.chunk_id is None):
        raise InputError("A search needs either text or chunk_id, and not both. Send one.")
    began = time.perf_counter()
    if body.chunk_id is not None:
        found = services.corpora.search_like(corpus_id, body.chunk_id, body.k)
    else:
        found = services.corpora.search(corpus_id, body.text or "", body.k)
    return {"neighbors": found, "seconds": round(time.perf_counter() - began, 4)}
