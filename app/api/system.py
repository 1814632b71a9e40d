"""The REST routes of the host and the presets."""

from typing import Any

from fastapi import APIRouter

from app.api.body import Body
from app.services.runs import list_presets
from app.services.services import Services

Json = dict[str, Any]


class Cleaning(Body):
    """Names what is to be removed: ``logs``, ``damaged``, ``temporary`` or ``unrecorded``."""

    what: str


def make_router(services: Services) -> APIRouter:
    """Return the routes of the host and the presets."""
    router = APIRouter(tags=["system"])

    @router.get("/system")
    def system() -> Json:
        """Devices, versions, disk, worker."""
        return services.system.describe()

    @router.get("/settings")
    def settings() -> Json:
        """How the app was set up: encoder, access, MCP, database, backups, versions."""
        return services.installation.describe()

    @router.get("/storage")
    def storage() -> Json:
        """What the files take up, part by part; they are measured now, which may take seconds."""
        return services.storage.measure()

    @router.post("/storage/clean")
    def clean(body: Cleaning) -> Json:
        """Remove old logs, damaged checkpoints, or left-over or unrecorded files."""
        return services.storage.clean(body.what)

    @router.get("/presets")
    def presets() -> Json:
        """Model sizes to choose from."""
        return {"presets": list_presets()}

    return router
