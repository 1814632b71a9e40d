"""Everything that is kept in the database, behind one object."""

from jobs.store.alerts import AlertRecords
from jobs.store.checkpoints import CheckpointRecords
from jobs.store.corpora import CorpusRecords
from jobs.store.documents import DocumentRecords
from jobs.store.generations import GenerationRecords
from jobs.store.kept_answers import KeptAnswers
from jobs.store.leases import Leases
from jobs.store.locks import Locks
from jobs.store.metrics import MetricRecords
from jobs.store.runs import RunRecords
from jobs.store.versions import VersionRecords
from jobs.store.workers import WorkerRecords


class Store(
    RunRecords,
    CheckpointRecords,
    Leases,
    CorpusRecords,
    DocumentRecords,
    Locks,
    KeptAnswers,
    VersionRecords,
    MetricRecords,
    AlertRecords,
    GenerationRecords,
    WorkerRecords,
):
    """Reads and writes jobs, corpora, runs, generations and workers.

    Methods return frozen rows. Each is one transaction, and may be called from any thread.
    The database is opened, and its tables are made or brought up to date, at the first use.
    """
