"""All services of the web process, made once at start-up."""

from app.services.corpora import CorpusService
from app.services.doors import Doors
from app.services.generations import GenerationService
from app.services.jobs import JobService
from app.services.runs import RunService
from app.services.system import SystemService
from app.services.uploads import UploadLimits, UploadService
from jobs.home import Home
from jobs.store import Store


class Services:
    """One object per noun, sharing the store and the home folder."""

    def __init__(
        self,
        home: Home,
        store: Store,
        *,
        encoder: str | None = None,
        limits: UploadLimits | None = None,
    ) -> None:
        self.home = home
        self.store = store
        self.system = SystemService(home, store)
        self.jobs = JobService(home, store)
        self.corpora = CorpusService(home, store, self.jobs, encoder)
        self.uploads = UploadService(home, store, limits or UploadLimits())
        self.runs = RunService(home, store, self.corpora)
        self.generations = GenerationService(home, store, self.corpora, self.runs)
        self.doors = Doors(self.corpora, self.runs, self.generations)
