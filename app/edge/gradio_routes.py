"""Which of Gradio's routes are open: those that the pages and ``gradio_client`` use.

Gradio serves more than this app needs: uploads, files of the host, a proxy, streams, tools for
developing. A route that is not named here is not there, also one that a new version adds.
"""

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from app.edge.plain_answers import send_refusal
from app.ui import PAGES

READ = frozenset({"GET", "HEAD"})
WRITE = frozenset({"POST"})
OPEN_ROUTES = {
    **dict.fromkeys((path for _, path in PAGES), READ),
    "/config": READ,
    "/theme.css": READ,
    "/favicon.ico": READ,
    "/robots.txt": READ,
    "/assets/{path:path}": READ,
    "/static/{path:path}": READ,
    "/gradio_api/info": READ,
    "/gradio_api/heartbeat/{session_hash}": READ,
    "/gradio_api/queue/data": READ,
    "/gradio_api/queue/join": WRITE,
    "/gradio_api/run/{api_name}": WRITE,
    "/gradio_api/call/{api_name}": WRITE,
    "/gradio_api/call/{api_name}/{event_id}": READ,
    "/gradio_api/cancel": WRITE,
}
"""Path, as Gradio writes it, to methods."""
MCP_PATHS = ("/gradio_api/mcp", "/gradio_api/mcp/")
"""Where Gradio has its own MCP server, and we have ours."""
OWN_PATHS = ("/healthz", *MCP_PATHS)
OWN_FOLDERS = ("/api/", "/assets-retro/")
SHOWN_CHARACTERS = 200


class OpenRoutes:
    """Lets requests through to our own routes, and to those of Gradio that are open.

    Args:
        app: Everything inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = [(compile_path(path)[0], methods) for path, methods in OPEN_ROUTES.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan" or self._is_open(scope):
            await self._app(scope, receive, send)
            return
        detail = (
            f"There is nothing at {scope['path'][:SHOWN_CHARACTERS]} for this kind of request. "
            f"The pages begin at /, and the routes for programs are at /api/v1/docs."
        )
        await send_refusal(scope, send, 404, detail)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        if scope["type"] != "http":
            return False
        if path in OWN_PATHS or path.startswith(OWN_FOLDERS):
            return True
        return any(
            scope["method"] in methods and pattern.match(path) for pattern, methods in self._open
        )
