"""The web app: REST routes, pages, static files, and the gate around all of them."""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator

import gradio as gr
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app import gradio_api
from app.api.routes import make_last_router, make_router
from app.error_answers import add_error_handlers
from app.first_paint import FirstPaint
from app.gate import Gate
from app.pages import corpora, docs, generate, jobs, runs, settings, start
from app.services.services import Services
from app.theme import make_theme
from app.ui import STATIC_DIR

GRADIO_UPLOAD_LIMIT = "1kb"
"""Gradio's own upload route is not used: files go through ``/api/v1``."""
STYLES = ("styles.css", "generate.css")
SCRIPTS = ("app.js", "generate.js", "steering.js")
"""In this order: scripts of single pages build on the first."""


def make_app(services: Services, *, token: str | None) -> ASGIApp:
    """Return the whole web app.

    Args:
        services: What it shows and does.
        token: Access token; None leaves the app open, for loopback only.
    """
    return Gate(FirstPaint(make_ungated_app(services), STYLES, SCRIPTS), token)


def make_ungated_app(services: Services) -> FastAPI:
    """Return everything inside the gate; never serve it without one."""
    api = make_rest_app(services)
    asyncio.run(mount_pages(api, services))
    return api


def make_rest_app(services: Services) -> FastAPI:
    """Return the REST routes and the static files."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.generations.recover()
        yield
        services.generations.close()

    api = FastAPI(
        title="RETRO", lifespan=lifespan, openapi_url="/api/v1/openapi.json", docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    # Gradio adds its own, which reflects any origin, unless the app has one.
    api.add_middleware(CORSMiddleware, allow_origins=[])
    add_error_handlers(api)

    @api.get("/healthz", include_in_schema=False)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    api.include_router(make_router(services))
    api.include_router(docs.make_router(api))
    api.include_router(make_last_router(api))
    api.mount("/assets-retro", StaticFiles(directory=STATIC_DIR), name="assets-retro")
    return api


async def mount_pages(api: FastAPI, services: Services) -> None:
    """Add Gradio's pages to the app.

    A coroutine, because Gradio makes an event loop for each of its locks, and never closes
    it, unless one is running.
    """
    with warnings.catch_warnings():
        # Said of every app with several pages, also when server-side rendering is off.
        warnings.filterwarnings("ignore", message="SSR mode is not supported")
        gr.mount_gradio_app(
            api,
            make_pages(services),
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
        gradio_api.build(services)
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
