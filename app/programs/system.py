"""What programs can learn of the host and the presets."""

from typing import Any

from app.programs.body import Body
from app.programs.operation import Family
from app.services.run_settings import list_presets
from app.services.services import Services
from app.services.views import system as views

FAMILY = Family("system")


class Cleaning(Body):
    """Names what is to be removed: ``logs``, ``damaged``, ``temporary`` or ``unrecorded``."""

    what: str


@FAMILY.get("/system", view=views.System)
def system(services: Services) -> Any:
    """Devices, versions, disk, worker.

    Times are UTC seconds, sizes are bytes, ages are seconds.
    """
    return services.system.describe()


@FAMILY.get("/settings", view=views.Installation)
def settings(services: Services) -> Any:
    """How the app was set up: encoder, access, MCP, database, backups, versions."""
    return services.installation.describe()


@FAMILY.get("/storage", view=views.Storage)
def storage(services: Services) -> Any:
    """What the files take up, part by part; they are measured now, which may take seconds.

    Sizes are bytes. What is among the leftovers can be removed, see /api/v1/storage/clean.
    """
    return services.storage.measure()


@FAMILY.post("/storage/clean", view=views.Cleaned, example={"what": "logs"})
def clean(services: Services, body: Cleaning) -> Any:
    """Remove old logs, damaged checkpoints, or left-over or unrecorded files."""
    return services.storage.clean(body.what)


@FAMILY.get("/presets", view=views.Presets, items="presets")
def presets(services: Services) -> Any:  # noqa: ARG001  # every operation takes the services
    """Model sizes to choose from.

    Every field of a preset can be replaced when a run is made.
    """
    return list_presets()
