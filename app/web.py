"""The web app: REST routes, pages, static files, and the gate around all of them."""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import gradio as gr
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.edge.bodies import BodyLimits
from app.edge.gate import Gate
from app.edge.gradio_routes import MCP_PATHS, OpenRoutes
from app.error_answers import add_error_handlers
from app.first_paint import FirstPaint
from app.pages import corpora, docs, generate, jobs, runs, settings, start
from app.programs import client
from app.programs.description import DescribedApp
from app.programs.rest import make_last_router, make_router
from app.services.services import Services
from app.theme import make_theme
from app.ui import STATIC_DIR

if TYPE_CHECKING:
    from app.programs.mcp_server import McpServer

GRADIO_UPLOAD_LIMIT = "1kb"
"""Gradio's own upload route is not used: files go through ``/api/v1``."""
STYLES = ("styles.css", "generate.css", "charts.css", "corpora.css")
SCRIPTS = (
    "app.js",
    "forms.js",
    "upload.js",
    "generate.js",
    "steering.js",
    "charts.js",
    "curves.js",
    "runs.js",
)
"""In this order: scripts of single pages build on the first."""


def make_app(services: Services, *, token: str | None, mcp: str = "off") -> ASGIApp:
    """Return the whole web app.

    Args:
        services: What it shows and does.
        token: Access token; None leaves the app open, for loopback only.
        mcp: What programs may do over MCP: ``off``, ``read`` or ``write``.
    """
    return guard(FirstPaint(make_ungated_app(services, mcp), STYLES, SCRIPTS), token)


def guard(app: ASGIApp, token: str | None) -> ASGIApp:
    """Return an app that strangers and hostile requests may reach."""
    return Gate(OpenRoutes(BodyLimits(app)), token)


def make_ungated_app(services: Services, mcp: str = "off") -> FastAPI:
    """Return everything inside the gate; never serve it without one."""
    api = make_rest_app(services, mcp)
    asyncio.run(mount_pages(api, services))
    return api


def make_rest_app(services: Services, mcp: str = "off") -> FastAPI:
    """Return the REST routes, the static files, and the MCP server where it is switched on."""
    mcp_server = None if mcp == "off" else make_mcp_server(services, mcp)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.start()
        async with contextlib.nullcontext() if mcp_server is None else mcp_server.running():
            yield
        services.close()

    api = DescribedApp(
        title="RETRO",
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    # Gradio adds its own, which reflects any origin, unless the app has one.
    api.add_middleware(CORSMiddleware, allow_origins=[])
    add_error_handlers(api)

    @api.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    api.include_router(make_router(services))
    api.include_router(docs.make_router(api))
    api.include_router(make_last_router(api))
    if mcp_server is not None:
        api.router.routes += [Route(path, mcp_server) for path in MCP_PATHS]
    api.mount("/assets-retro", StaticFiles(directory=STATIC_DIR), name="assets-retro")
    return api


def make_mcp_server(services: Services, mode: str) -> "McpServer":
    """Return the MCP server."""
    # Most apps do without it, and it takes long to load.
    from app.programs.mcp_server import McpServer  # noqa: PLC0415

    return McpServer(services, mode)


async def mount_pages(api: FastAPI, services: Services) -> None:
    """Add Gradio's pages to the app.

    A coroutine, because Gradio makes an event loop for each of its locks, and never closes
    it, unless one is running.
    """
    with warnings.catch_warnings():
        # Said of every app with several pages, also when server-side rendering is off.
        warnings.filterwarnings("ignore", message="SSR mode is not supported")
        pages = make_pages(services)
        # Only then does Gradio look at which files of the host it may read; mounting leaves it.
        pages.has_launched = True
        gr.mount_gradio_app(
            api,
            pages,
            path="/",
            theme=make_theme(),
            run_history=False,
            footer_links=[],
            allowed_paths=[],
            show_error=False,
            max_file_size=GRADIO_UPLOAD_LIMIT,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            pwa=False,
        )


def make_pages(services: Services) -> gr.Blocks:
    """Return all pages."""
    demo: gr.Blocks
    with gr.Blocks(title="RETRO", analytics_enabled=False, fill_width=True) as demo:
        start.build(services, demo)
        client.build(services)
    for name, path, page in (
        ("Corpora", "/corpora", corpora),
        ("Runs", "/runs", runs),
        ("Generate", "/generate", generate),
        ("Jobs", "/jobs", jobs),
        ("Settings", "/settings", settings),
    ):
        with demo.route(name, path):
            page.build(services, demo)
    return demo
