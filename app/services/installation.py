"""How this app was set up: encoder, access, database, versions. Nothing secret is shown."""

from dataclasses import dataclass

from app.services.storage import StorageService
from app.services.system import list_devices, list_versions
from app.services.uploads import UploadLimits
from app.services.views import system as views
from app.settings import McpMode, Settings
from jobs.store.sqlite import newest_module, sqlite_warning
from jobs.store.store import Store
from retro.config.corpus import BUNDLED_ENCODER
from retro.retrieval.encoder_files import find_encoder_offline


@dataclass(frozen=True, kw_only=True, slots=True)
class SetUp:
    """What the app was started with, as far as pages may show it."""

    host: str = "127.0.0.1"
    """Address it listens on."""

    has_token: bool = False
    """Whether an access token must be sent."""

    encoder: str | None = None
    """Encoder of new corpora; None is the bundled one."""

    mcp: McpMode = "off"
    """What programs may do over MCP: ``off``, ``read`` or ``write``."""

    @classmethod
    def of(cls, settings: Settings) -> "SetUp":
        """Return what may be shown of the settings."""
        return cls(
            host=settings.host,
            has_token=settings.token is not None,
            encoder=settings.encoder,
            mcp=settings.mcp,
        )


class InstallationService:
    """Describes the set-up of this app."""

    def __init__(
        self,
        store: Store,
        storage: StorageService,
        set_up: SetUp,
        limits: UploadLimits,
    ) -> None:
        self._store = store
        self._storage = storage
        self._set_up = set_up
        self._limits = limits

    def describe(self) -> views.Installation:
        """Return encoder, access, MCP, database, backups, devices and versions."""
        return views.Installation(
            encoder=self.encoder(),
            access=views.Access(has_token=self._set_up.has_token, host=self._set_up.host),
            mcp=self._set_up.mcp,
            database=self.database(),
            backups=self._storage.backups(),
            kept_free_bytes=self.kept_free_bytes,
            devices=list_devices(),
            versions=list_versions(),
        )

    @property
    def kept_free_bytes(self) -> int:
        """Bytes of the disk that uploads leave free."""
        return self._limits.free_disk

    def encoder(self) -> views.Encoder:
        """Return the encoder of new corpora, and whether it is on this machine."""
        name = self._set_up.encoder
        return views.Encoder(
            name=name or BUNDLED_ENCODER,
            is_bundled=name in (None, BUNDLED_ENCODER),
            is_here=find_encoder_offline(name) is not None,
        )

    def database(self) -> views.DatabaseFacts:
        """Return which database keeps everything, and what to know about its version."""
        if not self._store.is_sqlite:
            found = self._store.engine.dialect.server_version_info or ()
            return views.DatabaseFacts(
                kind="PostgreSQL", version=".".join(map(str, found)), warning=None
            )
        return views.DatabaseFacts(
            kind="SQLite", version=newest_module().sqlite_version, warning=sqlite_warning()
        )
