"""All REST routes in one router, and the answer to addresses that are none."""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.api import corpora, generations, jobs, runs, system
from app.services.services import Services

ALL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def make_router(services: Services) -> APIRouter:
    """Return all routes below ``/api/v1``."""
    router = APIRouter(prefix="/api/v1")
    for family in (system, corpora, jobs, runs, generations):
        router.include_router(family.make_router(services))
    return router


def make_last_router(app: FastAPI) -> APIRouter:
    """Return a route for what no other one below ``/api`` takes; include it last.

    Without it such requests would end up among the pages.
    """
    router = APIRouter()

    @router.api_route("/api/{path:path}", methods=list(ALL_METHODS), include_in_schema=False)
    def nothing(request: Request) -> Response:
        known = any(route.matches(request.scope)[0] is Match.PARTIAL for route in app.routes)
        raise HTTPException(405 if known else 404)

    return router
