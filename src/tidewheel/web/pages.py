"""The page, its renewing fragment and their JSON twin, over one function that reads the state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable, TidewheelError
from tidewheel.web.records import Status
from tidewheel.web.render import Renderer
from tidewheel.web.run_pages import RunReader, run_routes

Reader = Callable[[str | None], Status]  # the state of everything, with the named model shown; None: the first

HERE = Path(__file__).parent
REFRESH_SECONDS = 2.0
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SafeHeaders:
    """Adds to every answer the headers that keep foreign code and foreign frames away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with the headers."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_safely)


def page_app(read: Reader, *, runs: RunReader | None = None, refresh_seconds: float = REFRESH_SECONDS) -> Starlette:
    """Return the web application that shows what `read` and `runs` return; it keeps no state and takes no command."""
    renderer = Renderer(refresh_seconds=refresh_seconds)

    def page(request: Request) -> Response:
        return HTMLResponse(renderer.page(_read(request)))

    def fragment(request: Request) -> Response:
        return HTMLResponse(renderer.fragment(_read(request)))

    def status(request: Request) -> Response:
        return _json(_read(request))

    def icon(request: Request) -> Response:
        del request  # browsers ask for it where a page of JSON names no icon
        return FileResponse(HERE / "static" / "wheel.svg", media_type="image/svg+xml")

    def _read(request: Request) -> Status:
        return read(request.query_params.get("model") or None)

    def sorry(request: Request, error: Exception) -> Response:
        code, what, mend = explain(error)
        if request.url.path.startswith("/api/"):
            return _json({"error": what, "mend": mend}, code)
        return HTMLResponse(renderer.sorry(what, mend), code)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/now", fragment),
            Route("/api/status", status),
            *(run_routes(runs, renderer) if runs is not None else ()),
            Route("/favicon.ico", icon),
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Mount("/vendor", StaticFiles(directory=HERE / "vendor")),
        ],
        middleware=[Middleware(SafeHeaders), Middleware(GZipMiddleware)],
        exception_handlers={TidewheelError: sorry, HTTPException: sorry, 500: sorry},
    )


def _json(content: object, code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type="application/json")


def explain(error: Exception) -> tuple[int, str, str]:
    """Return for an error the HTTP status, what happened, and how to mend it; the unforeseen keeps its secrets."""
    if isinstance(error, TidewheelError):
        codes = {NotFound: 404, StorageUnavailable: 503, InvalidInput: 400}
        return next((code for kind, code in codes.items() if isinstance(error, kind)), 500), error.what, error.mend
    if isinstance(error, HTTPException) and error.status_code == 405:
        return 405, "The page takes no commands.", "Read it with GET; act with the command line."
    if isinstance(error, HTTPException):
        mend = "The pages are at / and /runs, the same as JSON at /api/status and /api/runs."
        return error.status_code, "There is no such page.", mend
    return 500, "The page could not be drawn.", "The output of the server says why; the loop itself is not affected."
