"""The engine behind Ray Serve: one replica holds one engine, Ray brings the requests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tidewheel.errors import MissingExtra
from tidewheel.lineage.store import Store
from tidewheel.serving.engine import Engine
from tidewheel.serving.terms import Terms


class Replica:
    """Answers the requests of Ray Serve's proxy as the prediction server does, log and keys included."""

    def __init__(self, store: Store, models: Sequence[str] | None = None, terms: Terms | None = None) -> None:
        self._engine = Engine(store, models, writer=f"ray{os.getpid()}", terms=terms or Terms())
        self._engine.start()

    async def __call__(self, request: Any) -> Any:
        """Answer a Starlette request with a Starlette response."""
        from starlette.responses import Response as Answer

        headers = [(name.lower(), value) for name, value in request.headers.raw]
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        response = self._engine.handle(request.method, path, headers, await request.body())
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.body, status_code=response.status, headers=sent)

    def check_health(self) -> None:
        """Tell Ray that the replica lives; a model that is not deployed yet is answered with 503, not a restart."""

    def close(self) -> None:
        """Let go of the log."""
        self._engine.close()


def application(make_replica: Any, *, name: str = "tidewheel", replicas: int = 1, cpus: float = 1.0) -> Any:
    """Return an application for `serve.run`; `make_replica()` is called in each replica and returns a Replica.

    Raises MissingExtra when Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtra("ray[serve]", "ray") from error

    class Served:
        def __init__(self) -> None:
            self._replica = make_replica()

        async def __call__(self, request: Any) -> Any:
            return await self._replica(request)

    options: dict[str, Any] = {"name": name, "num_replicas": replicas, "ray_actor_options": {"num_cpus": cpus}}
    return serve.deployment(**options)(Served).bind()
