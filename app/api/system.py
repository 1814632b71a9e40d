"""The REST routes of the host and the presets."""

from typing import Any

from fastapi import APIRouter

from app.services.runs import list_presets
from app.services.services import Services

Json = dict[str, Any]


def make_router(services: Services) -> APIRouter:
    """Return the routes of the host and the presets."""
    router = APIRouter(tags=["system"])

    @router.get("/system")
    def system() -> Json:
        """Devices, versions, disk, worker."""
        return services.system.describe()

    @router.get("/presets")
    def presets() -> Json:
        """Model sizes to choose from."""
        return {"presets": list_presets()}

    return router
