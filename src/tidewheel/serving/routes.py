"""Which operation a method and a path name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidewheel.errors import NotFound

_NAME = r"(?P<model>.+?)"  # a name may hold slashes
_VERSION = r"(?:/versions/(?P<version>[^/]+))?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One kind of path."""

    action: str  # name of the operation
    method: str  # GET or POST; GET answers HEAD as well
    path: str  # as the documentation shows it
    pattern: re.Pattern[str]  # what it matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a request asks for."""

    route: Route  # the kind of path
    values: Mapping[str, str]  # model and version, where the path names them
    allowed: bool  # whether the method is the route's

    @property
    def about(self) -> tuple[str, str]:
        """The model and the version that the path names, "" for none."""
        return self.values.get("model", ""), self.values.get("version", "")


def _route(action: str, method: str, path: str, pattern: str) -> Route:
    return Route(action=action, method=method, path=path, pattern=re.compile(pattern))


ROUTES: Sequence[Route] = (
    _route("predict", "POST", "/predict/{model}", rf"/predict/{_NAME}"),
    _route("explain", "POST", "/explain/{model}", rf"/explain/{_NAME}"),
    _route("lookup", "GET", "/lookup/{model}/{id}", rf"/lookup/{_NAME}/(?P<id>[^/]+)"),
    _route("outcomes", "POST", "/outcomes", r"/outcomes"),
    _route("server", "GET", "/v2", r"/v2/?"),
    _route("live", "GET", "/v2/health/live", r"/v2/health/live"),
    _route("ready", "GET", "/v2/health/ready", r"/v2/health/ready"),
    _route(
        "model_ready", "GET", "/v2/models/{model}[/versions/{version}]/ready", rf"/v2/models/{_NAME}{_VERSION}/ready"
    ),
    _route("infer", "POST", "/v2/models/{model}[/versions/{version}]/infer", rf"/v2/models/{_NAME}{_VERSION}/infer"),
    _route("model", "GET", "/v2/models/{model}[/versions/{version}]", rf"/v2/models/{_NAME}{_VERSION}"),
    _route("index", "POST", "/v2/repository/index", r"/v2/repository/index"),
    _route("load", "POST", "/v2/repository/models/{model}/load", rf"/v2/repository/models/{_NAME}/load"),
    _route("unload", "POST", "/v2/repository/models/{model}/unload", rf"/v2/repository/models/{_NAME}/unload"),
    _route("invocations", "POST", "/invocations", r"/invocations"),
    _route("invocations", "POST", "/invocations/{model}", rf"/invocations/{_NAME}"),
    _route("ping", "GET", "/ping", r"/(?:ping|health)"),
    _route("version", "GET", "/version", r"/version"),
    _route("openapi", "GET", "/openapi.json", r"/openapi\.json"),
    _route("metrics", "GET", "/metrics", r"/metrics"),
    _route("docs", "GET", "/docs", r"/(?:docs/?)?"),
)


def match(method: str, path: str) -> Match:
    """Return what a request asks for; the caller refuses a method that is not allowed.

    >>> match("GET", "/v2/models/bikes/versions/3/ready").values["version"]
    '3'

    Raises NotFound with near paths.
    """
    for route in ROUTES:
        found = route.pattern.fullmatch(path)
        if found:
            values = {name: value for name, value in found.groupdict().items() if value is not None}
            allowed = method == route.method or (method == "HEAD" and route.method == "GET")
            return Match(route=route, values=values, allowed=allowed)
    raise NotFound("path", path[:200], [route.path for route in ROUTES], "See /docs.")
