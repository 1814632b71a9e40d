"""What the routes of corpora answer, but for documents and chunks."""

from typing import Annotated, Literal

from pydantic import ConfigDict

from app.services.views.base import Json, Stored, View, with_fields_of
from app.services.views.examples import CORPUS, CORPUS_SIZES, CORPUS_VERSION, LISTED_CORPUS
from jobs.store.states import CorpusState, RunState
from retro.config.corpus import CorpusConfig
from retro.corpus import summary as corpus_summary


class CorpusSummary(View):
    """Facts of a finished build; those of a build by an earlier version may be fewer."""

    model_config = with_fields_of(corpus_summary.CorpusSummary)


CorpusSettings = Annotated[Json, Stored(CorpusConfig)]


class DocumentChanges(View):
    """How many documents have changed since the last build; all 0 unless the state is ready."""

    added: int
    """Documents that the build did not have."""
    replaced: int
    """Documents with another text than in the build."""
    removed: int
    """Documents of the build that are gone."""


class ListedCorpus(View):
    """A corpus without the runs that need it."""

    model_config = ConfigDict(json_schema_extra={"example": LISTED_CORPUS})

    id: str
    """Id of the corpus."""
    name: str
    """Its name, for people."""
    state: CorpusState
    """``uploaded``: it has documents and was not built, or its newest build was canceled;
    ``ready`` and ``failed`` are about the newest build."""
    settings: CorpusSettings
    """Settings of its next build."""
    summary: Annotated[Json, Stored(CorpusSummary)] | None
    """Facts of its last finished build; null before that."""
    num_documents: int
    """Documents it has now."""
    num_chunks: int | None
    """Chunks of its last finished build, those held out included; null before that."""
    version: int | None
    """Number of the version that it is now, counted from 1; null before the first build."""
    built_at: float | None
    """When that version was first built, UTC seconds; null before the first build."""
    has_changes: bool
    """Whether any of ``changes`` is above 0, so that a build would make another version."""
    changes: DocumentChanges
    """What has changed since the last build."""
    changed_settings: list[str]
    """Names of settings that are not those of the version that it is now."""
    build_job_id: str | None
    """Job of its newest build; null before the first."""
    created_at: float
    """When it was made, UTC seconds."""
    updated_at: float
    """When its name, settings, documents or builds last changed, UTC seconds."""


class NamedRun(View):
    """A run, by name."""

    id: str
    """Id of the run."""
    name: str
    """Its name."""


class Corpus(ListedCorpus):
    """A corpus."""

    model_config = ConfigDict(json_schema_extra={"example": CORPUS})

    unfinished_runs: list[NamedRun]
    """Runs that have begun on it and have neither succeeded nor been canceled: they go on with
    the version they began with."""


class Corpora(View):
    """Corpora, the newest first."""

    corpora: list[ListedCorpus]
    """The corpora."""


class VersionRun(NamedRun):
    """A run that was trained on a version of a corpus."""

    state: RunState
    """Where the run stands."""


class CorpusVersion(View):
    """What a corpus was after a build that made something new."""

    model_config = ConfigDict(json_schema_extra={"example": CORPUS_VERSION})

    number: int
    """Its number, counted from 1."""
    state: Literal["current", "kept", "replaced"]
    """``current`` is what the corpus is now; ``kept`` has its files, because runs were trained on
    it; ``replaced`` has none."""
    built_at: float
    """When it was first built, UTC seconds."""
    fingerprint: str
    """Identity of everything that training reads."""
    num_documents: int | None
    """Documents, those held out included."""
    num_validation_documents: int | None
    """Documents of which chunks are held out."""
    num_chunks: int | None
    """Chunks, those held out included."""
    num_embedded: int | None
    """Chunks whose keys its build computed; null where an earlier version built it."""
    num_reused: int | None
    """Chunks whose keys were there before; null where an earlier version built it."""
    vocab_size: int | None
    """Tokens of the tokenizer."""
    settings: CorpusSettings
    """Settings of its build."""
    changed_settings: list[str]
    """Names of settings that are not those of the version before."""
    bytes: int
    """Bytes of its tokenizer, chunks, index and neighbors on the disk; 0 if it was replaced."""
    runs: list[VersionRun]
    """Runs that were trained on it."""


class CorpusVersions(View):
    """The versions of a corpus, the newest first."""

    versions: list[CorpusVersion]
    """The versions."""


class CorpusParts(View):
    """Bytes of a corpus by part; a file that parts share counts for the first of them."""

    documents: int
    """Its text in UTF-8."""
    tokenizer: int
    """Its tokenizer."""
    database: int
    """Its chunks."""
    keys: int
    """The keys of its chunks."""
    index: int
    """The index and the neighbors of its chunks."""
    versions: int
    """Earlier versions that runs were trained on."""


class CorpusSizes(View):
    """What a corpus takes up on the disk."""

    model_config = ConfigDict(json_schema_extra={"example": CORPUS_SIZES})

    bytes: CorpusParts
    """Bytes by part."""
