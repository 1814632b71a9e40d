"""What the routes of the host, its storage and the presets answer."""

from typing import Literal

from pydantic import ConfigDict

from app.services.views.base import View
from app.services.views.examples import INSTALLATION, PRESET, STORAGE, SYSTEM
from app.settings import McpMode


class Device(View):
    """A GPU of the web server's host, or its CPU where it has none."""

    kind: Literal["cuda", "cpu"]
    """``cuda`` is a GPU."""
    name: str
    """Name for people."""
    memory_bytes: int | None
    """Memory of the GPU, or of the host beside a CPU, in bytes; null where a GPU hides it."""


class Disk(View):
    """The disk that holds the home folder of the app."""

    total: int
    """Its size in bytes."""
    free: int
    """Bytes of it that are free."""


class WorkerSummary(View):
    """The workers in short: how many are alive, and which one reported last."""

    alive: bool
    """Whether any worker is alive: it reported within half a minute."""
    num_alive: int
    """Workers that are alive."""
    host: str | None
    """Host of the one that reported last, of those alive if there are any; null, like the fields
    after it, where none reported within a day."""
    pid: int | None
    """Id of its process on that host."""
    slots: list[str] | None
    """Devices it runs jobs on: ``cpu``, or ``cuda:0`` and so on."""
    started_at: float | None
    """When it started, UTC seconds."""
    heartbeat_at: float | None
    """When it reported last, UTC seconds."""


class HeldJob(View):
    """The job that a slot of a worker is at."""

    id: str
    """Id of the job."""
    number: int
    """Number of the job, in the order of submission."""
    kind: str
    """``build`` or ``train``."""
    pid: int | None
    """Id of the process that runs it; null until that has started."""
    attempt: int
    """Which attempt this is, counted from 1."""
    lease_left: float | None
    """Seconds until its lease ends, unless it is renewed; below 0 once it is over."""
    progress_age: float | None
    """Seconds since its work last reported."""


class Slot(View):
    """A device on which a worker runs one job at a time."""

    slot: str
    """``cpu``, or ``cuda:0`` and so on."""
    job: HeldJob | None
    """The job it is at; null where it waits for one."""


class Worker(View):
    """A process that runs jobs; there is one on a host."""

    host: str
    """Name of its host."""
    pid: int
    """Id of its process on that host."""
    alive: bool
    """Whether it reported within half a minute and, on the host of the web server, still runs."""
    started_at: float
    """When it started, UTC seconds."""
    heartbeat_at: float
    """When it reported last, UTC seconds."""
    heartbeat_age: float
    """Seconds since it reported last."""
    is_this_version: bool
    """Whether it runs the same version of the program as the web server."""
    slots: list[Slot]
    """What it can run jobs on."""


class System(View):
    """What the app runs on."""

    model_config = ConfigDict(json_schema_extra={"example": SYSTEM})

    devices: list[Device]
    """The GPUs of the web server's host, or its CPU."""
    device: str
    """The devices in a few words."""
    disk: Disk
    """The disk that holds the home folder."""
    worker: WorkerSummary
    """The workers in short."""
    workers: list[Worker]
    """All workers that reported within a day, by host."""
    versions: dict[str, str]
    """Version of Python and of installed libraries, by name; that of ``retro`` identifies the
    files of the program."""
    time: float
    """When this was answered, UTC seconds."""


class Encoder(View):
    """The frozen model that computes the keys of new corpora."""

    name: str
    """Its name on the Hub, or its folder."""
    is_bundled: bool
    """Whether it is the one that comes with the app."""
    is_here: bool
    """Whether its files are on this machine."""


class Access(View):
    """Who can reach the app."""

    has_token: bool
    """Whether an access token must be sent."""
    host: str
    """Address that the app listens on."""


class DatabaseFacts(View):
    """The database that keeps all records."""

    kind: Literal["SQLite", "PostgreSQL"]
    """Which database it is."""
    version: str
    """Its version."""
    warning: str | None
    """What to know about that version, one sentence; null where nothing is wrong with it."""


class Backups(View):
    """The copies of the database in the home folder."""

    num_copies: int
    """How many there are."""
    newest: str | None
    """File name of the newest one; null where there is none."""
    newest_at: float | None
    """When that one was written, UTC seconds; null where there is none."""


class Installation(View):
    """How the app was set up; nothing secret."""

    model_config = ConfigDict(json_schema_extra={"example": INSTALLATION})

    encoder: Encoder
    """Encoder of new corpora."""
    access: Access
    """Who can reach the app."""
    mcp: McpMode
    """What programs may do over MCP."""
    database: DatabaseFacts
    """Where records are kept."""
    backups: Backups
    """Copies of the database."""
    kept_free_bytes: int
    """Bytes of the disk that uploads leave free."""
    devices: list[Device]
    """The GPUs of the web server's host, or its CPU."""
    versions: dict[str, str]
    """Version of Python and of installed libraries, by name; that of ``retro`` identifies the
    files of the program."""


class StorageParts(View):
    """Bytes in the home folder by part; a file with several names counts once."""

    corpora: int
    """Corpora, with documents, keys, indexes and kept versions."""
    runs: int
    """Training runs, with their checkpoints."""
    models: int
    """Pretrained models that were converted."""
    database: int
    """Files of an SQLite database."""
    logs: int
    """Logs."""
    backups: int
    """Copies of the database."""
    other: int
    """Everything else."""


class NamedBytes(View):
    """A corpus or a run, and what it takes up."""

    id: str
    """Its id."""
    name: str
    """Its name."""
    bytes: int
    """Bytes of its files."""


class Leftover(View):
    """Files of one kind that can be removed."""

    num: int
    """How many files or folders there are."""
    bytes: int
    """Bytes they take up."""


class Leftovers(View):
    """What can be removed without losing anything, by the name that cleaning takes."""

    logs: Leftover
    """Logs of jobs that ended more than a week ago, or are not known any more."""
    damaged: Leftover
    """Checkpoints that were set aside because they are damaged."""
    temporary: Leftover
    """What interrupted work left behind, unchanged for an hour."""
    unrecorded: Leftover
    """Files and folders of corpora that no record names."""


class Storage(View):
    """What the files in the home folder take up."""

    model_config = ConfigDict(json_schema_extra={"example": STORAGE})

    home: str
    """Name of the home folder."""
    measured_at: float
    """When this was measured, UTC seconds."""
    total_bytes: int
    """Bytes of all parts."""
    parts: StorageParts
    """Bytes by part."""
    checkpoint_bytes: int
    """Bytes of the part ``runs`` that are checkpoints."""
    floor_bytes: int
    """Bytes of the disk that stay free: builds and runs that would leave less are refused."""
    largest_corpora: list[NamedBytes]
    """At most five corpora, the largest first."""
    largest_runs: list[NamedBytes]
    """At most five runs, the largest first."""
    leftovers: Leftovers
    """What can be removed."""
    free_bytes: int
    """Bytes of the disk that are free."""


class Cleaned(View):
    """What was removed."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"what": "logs", "num_removed": 12, "freed_bytes": 48_200}}
    )

    what: Literal["logs", "damaged", "temporary", "unrecorded"]
    """Kind of what was removed."""
    num_removed: int
    """Files or folders that were removed."""
    freed_bytes: int
    """Bytes they took up."""


class Preset(View):
    """A size of a model to choose from."""

    model_config = ConfigDict(json_schema_extra={"example": PRESET})

    name: str
    """What a new run gives as ``preset``."""
    description: str
    """What it is for."""


class Presets(View):
    """The sizes of models to choose from."""

    presets: list[Preset]
    """The sizes, the smallest first."""
