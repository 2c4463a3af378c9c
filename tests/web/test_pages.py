"""The page shows the state and escapes it, its twin gives the same as JSON, and errors say how to mend them."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from starlette.applications import Starlette
from tests.web.outline import outline

from tidewheel.errors import NotFound, StorageUnavailable
from tidewheel.web.pages import page_app
from tidewheel.web.records import Status

Fetch = Callable[..., tuple[int, dict[str, str], str]]


def app(status: Status) -> Starlette:
    return page_app(lambda model: status)


def failing(error: Exception) -> Starlette:
    def read(model: str | None) -> Status:
        raise error

    return page_app(read)


@pytest.mark.parametrize("name", ["empty", "quiet", "busy", "hostile"])
@pytest.mark.parametrize("path", ["/", "/now"])
def test_every_state_gives_a_well_formed_document(
    name: str, path: str, fetch: Fetch, request: pytest.FixtureRequest
) -> None:
    status, headers, text = fetch(app(request.getfixturevalue(name)), path)
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    parsed = outline(text)
    assert parsed.mistakes == []
    assert parsed.open == []
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_names_from_users_never_become_markup(hostile: Status, fetch: Fetch) -> None:
    _, _, text = fetch(app(hostile), "/")
    tags = outline(text).tags
    assert [attributes.get("src") for tag, attributes in tags if tag == "script"] == [
        "/vendor/htmx/htmx.min.js",
        "/static/live.js",
    ]
    assert {attributes.get("src") for tag, attributes in tags if tag == "img"} == {"/static/wheel.svg"}
    assert not any(name.startswith("on") for _, attributes in tags for name in attributes)


def test_the_page_tells_what_runs_serves_and_is_decided(busy: Status, fetch: Fetch) -> None:
    _, _, text = fetch(app(busy), "/")
    for words in (
        "Version 3 serves; version 5 answers 25 % while evidence is gathered.",
        "2 alerts are open.",
        "drift: psi of pixel_3_4 was 0.31",
        "412 requests",
        "PSI of pixel_3_4 is 0.31 in 2 windows, limit 0.2",
        "fit: labels hold one class only (3)",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", ["tidewheel demo", "tidewheel init", "tidewheel up"]),
        ("quiet", ["Nothing serves yet.", "POST /predict/bikes", "every day at 03:00 UTC", "No version yet."]),
    ],
)
def test_an_empty_state_says_what_to_do_next(
    name: str, words: list[str], fetch: Fetch, request: pytest.FixtureRequest
) -> None:
    _, _, text = fetch(app(request.getfixturevalue(name)), "/")
    assert [word for word in words if word not in text] == []


def test_the_asked_model_is_the_one_read(busy: Status, fetch: Fetch) -> None:
    asked: list[str | None] = []

    def read(model: str | None) -> Status:
        asked.append(model)
        return busy

    for path in ("/", "/now?model=a%20b", "/api/status?model=digits", "/?model="):
        fetch(page_app(read), path)
    assert asked == [None, "a b", "digits", None]


def test_the_twin_gives_the_same_as_json(busy: Status, fetch: Fetch) -> None:
    status, headers, text = fetch(app(busy), "/api/status")
    assert (status, headers["content-type"]) == (200, "application/json")
    document = orjson.loads(text)
    assert document == orjson.loads(orjson.dumps(busy))
    assert document["shown"]["traffic"]["share"] == 0.25
    assert document["at"] == "2026-03-02T12:00:00+00:00"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("model", "bike", ["bikes"]), 404),
        (StorageUnavailable("The database cannot be reached.", "Start it."), 503),
    ],
)
def test_an_error_keeps_its_advice(error: Exception, code: int, fetch: Fetch) -> None:
    status, _, text = fetch(failing(error), "/api/status")
    assert status == code
    assert orjson.loads(text)["mend"] in str(error)
    status, _, page = fetch(failing(error), "/")
    assert status == code
    assert outline(page).mistakes == []
    assert "Did you mean" in page or "Start it." in page


def test_the_unforeseen_keeps_its_secrets(fetch: Fetch) -> None:
    for path in ("/", "/now", "/api/status"):
        status, _, text = fetch(failing(ZeroDivisionError("the password is 1234")), path)
        assert status == 500
        assert "1234" not in text
        assert "Traceback" not in text


def test_unknown_pages_and_commands_are_refused(busy: Status, fetch: Fetch) -> None:
    assert fetch(app(busy), "/nowhere")[0] == 404
    assert fetch(app(busy), "/", "POST")[0] == 405
    assert fetch(app(busy), "/static/../pages.py")[0] == 404
    assert orjson.loads(fetch(app(busy), "/api/nothing")[2])["mend"].startswith("The pages are at /")


def test_nothing_foreign_is_allowed_in(busy: Status, fetch: Fetch) -> None:
    for path in ("/", "/static/tidewheel.css", "/nowhere"):
        headers = fetch(app(busy), path)[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "file",
    [
        "/static/tidewheel.css",
        "/static/live.js",
        "/static/wheel.svg",
        "/vendor/htmx/htmx.min.js",
        "/vendor/htmx/LICENSE",
    ],
)
def test_every_file_of_the_page_ships_with_it(file: str, empty: Status, fetch: Fetch) -> None:
    status, _, text = fetch(app(empty), file)
    assert status == 200
    assert text
