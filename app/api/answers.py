"""What the REST routes answer: the shapes that the OpenAPI description names.

They describe and are not applied: a field that a service adds is answered at once, and a
test compares real answers with them.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict

from app.api.answer_examples import (
    CHECKPOINT,
    CHUNK,
    CORPUS,
    DOCUMENT,
    GENERATION,
    JOB,
    JOB_EVENT,
    NEIGHBOR,
    RUN,
    SYSTEM,
)

Json = dict[str, Any]


class Answer(BaseModel):
    """Base of all answers: more fields may come."""

    model_config = ConfigDict(extra="allow")


class Problem(Answer):
    """Every error: one sentence with the rule, the value found and the next step."""

    detail: str


class Corpus(Answer):
    """A corpus."""

    model_config = ConfigDict(json_schema_extra={"example": CORPUS})

    id: str
    name: str
    state: str
    settings: Json
    summary: Json | None
    num_documents: int
    num_chunks: int | None
    has_changes: bool
    build_job_id: str | None
    created_at: float
    updated_at: float


class Corpora(Answer):
    """Corpora, the newest first."""

    corpora: list[Corpus]


class Document(Answer):
    """A document of a corpus."""

    model_config = ConfigDict(json_schema_extra={"example": DOCUMENT})

    path: str
    bytes: int
    encoding: str
    note: str | None


class DocumentPage(Answer):
    """Some documents of a corpus, and how many it has."""

    documents: list[Document]
    total: int


class AcceptedFile(Answer):
    """A file that is now a document."""

    model_config = ConfigDict(json_schema_extra={"example": {"path": "notes/a.txt", "bytes": 812}})

    path: str
    bytes: int


class SkippedFile(Answer):
    """A file that was left out, and why."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"path": "notes/b.txt", "reason": "The file is empty."}}
    )

    path: str
    reason: str


class UploadReport(Answer):
    """What became of each file of an upload."""

    accepted: list[AcceptedFile]
    skipped: list[SkippedFile]


class Neighbor(Answer):
    """A chunk that was found, with the text after it."""

    model_config = ConfigDict(json_schema_extra={"example": NEIGHBOR})

    rank: int
    chunk_id: int | None
    document: str
    start: int | None
    end: int | None
    distance: float | None
    text: str
    continuation: str


class Neighbors(Answer):
    """Chunks, the nearest first."""

    neighbors: list[Neighbor]


class CorpusChunk(Answer):
    """A chunk of a corpus with its place and its neighbors."""

    model_config = ConfigDict(json_schema_extra={"example": CHUNK})

    chunk_id: int
    document: str
    start: int
    end: int
    text: str
    continuation: str
    is_retrievable: bool
    neighbors: list[Neighbor]


class Job(Answer):
    """A background job."""

    model_config = ConfigDict(json_schema_extra={"example": JOB})

    id: str
    number: int
    kind: str
    state: str
    priority: int
    stage: str | None
    done: int | None
    total: int | None
    message: str | None
    error: str | None
    corpus_id: str | None
    run_id: str | None
    attempt: int
    after_id: str | None
    parent_id: str | None
    cancel_requested: bool
    created_at: float
    started_at: float | None
    finished_at: float | None


class Jobs(Answer):
    """Jobs, the newest first."""

    jobs: list[Job]


class JobLog(Answer):
    """The end of a job's log."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"log": "INFO retro: embedded 512 of 4,096 chunks"}}
    )

    log: str


class JobEvent(Answer):
    """A change of a job's state."""

    model_config = ConfigDict(json_schema_extra={"example": JOB_EVENT})

    at: float
    to: str
    attempt: int
    message: str | None


class JobEvents(Answer):
    """The changes of a job's state, oldest first."""

    events: list[JobEvent]


class RunSummary(Answer):
    """A training run without its checkpoints."""

    model_config = ConfigDict(json_schema_extra={"example": RUN})

    id: str
    name: str
    corpus_id: str
    corpus_name: str | None
    settings: Json
    state: str
    step: int
    total_steps: int
    job_id: str | None
    parent_id: str | None
    message: str | None
    created_at: float
    updated_at: float


class Checkpoint(Answer):
    """A checkpoint of a run."""

    model_config = ConfigDict(json_schema_extra={"example": CHECKPOINT})

    step: int
    val_loss_on: float | None
    val_loss_off: float | None
    bytes: int
    is_best: bool
    is_pinned: bool
    created_at: float


class Run(RunSummary):
    """A training run with its checkpoints."""

    model_config = ConfigDict(
        json_schema_extra={"example": {**RUN, "checkpoints": [CHECKPOINT], "alerts": []}}
    )

    checkpoints: list[Checkpoint]
    alerts: list[Json]


class Runs(Answer):
    """Runs, the newest first."""

    runs: list[RunSummary]


class Point(Answer):
    """One measured value."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "train_loss", "step": 100, "value": 4.12}}
    )

    name: str
    step: int
    value: float | None


class Points(Answer):
    """Measured values in the order of their steps."""

    points: list[Point]


class GenerationSummary(Answer):
    """A text without its chunks."""

    id: str
    run_id: str
    run_name: str
    corpus_id: str | None
    state: str
    message: str | None
    prompt: str
    settings: Json
    result: Json | None
    created_at: float
    finished_at: float | None
    parent_id: str | None
    branch_index: int | None


class Generation(GenerationSummary):
    """A text; ``text``, ``seed`` and ``chunks`` are in ``on`` and ``off`` with retrieval "both"."""

    model_config = ConfigDict(json_schema_extra={"example": GENERATION})

    text: str = ""
    seed: int = 0
    chunks: list[Json] = []


class Generations(Answer):
    """Texts, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "generations": [
                    {k: v for k, v in GENERATION.items() if k not in ("text", "seed", "chunks")}
                ]
            }
        }
    )

    generations: list[GenerationSummary]


class System(Answer):
    """What the app runs on."""

    model_config = ConfigDict(json_schema_extra={"example": SYSTEM})

    devices: list[Json]
    device: str
    disk: dict[str, int]
    worker: Json
    workers: list[Json]
    versions: dict[str, str]
    time: float


class Preset(Answer):
    """A size of a model to choose from."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "tiny", "description": "About 3 M parameters."}}
    )

    name: str
    description: str


class Presets(Answer):
    """The sizes of models to choose from."""

    presets: list[Preset]
