"""Everything that is kept in the database, behind one object."""

from jobs.alerts import AlertRecords
from jobs.checkpoints import CheckpointRecords
from jobs.corpora import CorpusRecords
from jobs.documents import DocumentRecords
from jobs.generations import GenerationRecords
from jobs.kept_answers import KeptAnswers
from jobs.leases import Leases
from jobs.locks import Locks
from jobs.metrics import MetricRecords
from jobs.runs import RunRecords
from jobs.versions import VersionRecords
from jobs.workers import WorkerRecords


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
