"""The page over a store, and a server that carries it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import uvicorn
from starlette.applications import Starlette

from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.web.gather import read_status
from tidewheel.web.gather_runs import read_run, read_runs
from tidewheel.web.hooks import hook_route
from tidewheel.web.pages import page_app
from tidewheel.web.records import Status
from tidewheel.web.run_pages import RunReader


def create_app(store: Store, loops: Sequence[Loop] = ()) -> Starlette:
    """Return the web application over a store, webhooks included; what loops declare is read from the store too."""

    def read(model: str | None) -> Status:
        return read_status(store, loops, model)

    runs = RunReader(many=partial(read_runs, store), one=partial(read_run, store))
    app = page_app(read, runs=runs)
    app.router.routes.append(hook_route(store))
    return app


def serve_web(store: Store, loops: Sequence[Loop] = (), *, host: str = "127.0.0.1", port: int = 8601) -> None:
    """Serve the page until SIGTERM or Ctrl-C; requests in flight are answered first."""
    app = create_app(store, loops)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
