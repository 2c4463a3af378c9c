"""The list of runs, the page of each, the parts of both that renew themselves, and their JSON twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.web.render import Renderer
from tidewheel.web.run_records import Filters, RunList, RunPage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReader:
    """Where the pages of runs come from."""

    many: Callable[[Filters], RunList]  # the list that fits
    one: Callable[[str, str], RunPage]  # a run by its id (or enough of it), and the call or step to show in full


def run_routes(runs: RunReader, renderer: Renderer) -> list[Route]:
    """Return the routes of the pages of runs."""

    def many(request: Request) -> Response:
        found = runs.many(_filters(request))
        return HTMLResponse(renderer.run_list(found, whole=True, query=_query(found.filters)))

    def many_now(request: Request) -> Response:
        found = runs.many(_filters(request))
        return HTMLResponse(renderer.run_list(found, whole=False, query=_query(found.filters)))

    def many_json(request: Request) -> Response:
        return _json(runs.many(_filters(request)))

    def one(request: Request) -> Response:
        step = request.query_params.get("step", "")
        return HTMLResponse(renderer.run(_read(request), whole=True, step=step))

    def one_now(request: Request) -> Response:
        step = request.query_params.get("step", "")
        return HTMLResponse(renderer.run(_read(request), whole=False, step=step))

    def one_json(request: Request) -> Response:
        return _json(_read(request))

    def _read(request: Request) -> RunPage:
        run_id = request.path_params["run"]
        if len(run_id) < 4:
            raise NotFound("run", run_id, mend="Find it at /runs.")
        return runs.one(run_id, request.query_params.get("step", ""))

    return [
        Route("/runs", many),
        Route("/runs/now", many_now),
        Route("/runs/{run}", one),
        Route("/runs/{run}/now", one_now),
        Route("/api/runs", many_json),
        Route("/api/runs/{run}", one_json),
    ]


def _filters(request: Request) -> Filters:
    given = {name.name: request.query_params.get(name.name, "").strip() for name in fields(Filters)}
    limit = given.pop("limit") or "50"
    if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
        raise InvalidInput(f"limit={limit} is no number of runs.", "Give 1 to 1000.")
    return Filters(**given, limit=int(limit))


def _query(filters: Filters) -> str:
    """Return the filters as they stand in an address, without those that nobody set."""
    unset = Filters()
    found = {item.name: getattr(filters, item.name) for item in fields(Filters)}
    return urlencode({name: value for name, value in found.items() if value != getattr(unset, name)})


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
