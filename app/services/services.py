"""All services of the web process, made once at start-up."""

from app.services.comparison import ComparisonService
from app.services.corpora import CorpusService
from app.services.curves import CurveService
from app.services.doors import Doors
from app.services.estimates import EstimateService
from app.services.generations import GenerationService
from app.services.installation import InstallationService, SetUp
from app.services.job_waits import JobWaits
from app.services.jobs import JobService
from app.services.runs import RunService
from app.services.storage import StorageService
from app.services.system import SystemService
from app.services.uploads import UploadLimits, UploadService
from jobs.home import Home
from jobs.store.store import Store


class Services:
    """One object per noun, sharing the store and the home folder."""

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        set_up: SetUp | None = None,
        limits: UploadLimits | None = None,
    ) -> None:
        chosen = set_up or SetUp()
        allowed = limits or UploadLimits()
        self.home = home
        self.store = store
        self.system = SystemService(home, store)
        self.jobs = JobService(home, store)
        self.job_waits = JobWaits(self.jobs)
        self.corpora = CorpusService(home, store, self.jobs, chosen.encoder)
        self.uploads = UploadService(home, store, allowed)
        self.runs = RunService(home, store, self.corpora)
        self.curves = CurveService(store)
        self.comparison = ComparisonService(store, self.curves)
        self.estimates = EstimateService(store, self.runs)
        self.generations = GenerationService(home, store, self.corpora)
        self.storage = StorageService(home, store)
        self.installation = InstallationService(store, self.storage, chosen, allowed)
        self.doors = Doors(self.corpora, self.runs, self.generations)

    def start(self) -> None:
        """Take up what a former web process has left; call once before requests come."""
        self.generations.recover()
        self.storage.unrecorded.start()

    def close(self) -> None:
        """End what goes on in the background; finished chunks of texts stay."""
        self.storage.unrecorded.close()
        self.generations.close()
