"""Calls from outside: who is let in, who is not, and that each delivery counts once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import ModuleType
from typing import Any

import orjson
import pytest
from starlette.types import Message, Scope

from tidewheel.clock import ManualClock
from tidewheel.lineage.store import Store
from tidewheel.triggers import Policy, Schedule, absent, event, webhook
from tidewheel.triggers.deliveries import RETENTION
from tidewheel.triggers.signature import sign
from tidewheel.triggers.tick import tick
from tidewheel.triggers.webhooks import LIMIT
from tidewheel.web.serve import create_app

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Book = Callable[[], list[str]]


class Caller:
    """Calls the web application of a store without a socket."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.app = create_app(store)

    def call(self, name: str, headers: Mapping[str, str], body: bytes, method: str = "POST") -> tuple[int, Any]:
        sent: list[Message] = []
        parts = [body[start : start + 65_536] for start in range(0, len(body), 65_536)] or [b""]
        asked: list[int] = []

        async def receive() -> Message:
            if len(asked) == len(parts):
                await asyncio.Event().wait()
            asked.append(1)
            return {"type": "http.request", "body": parts[len(asked) - 1], "more_body": len(asked) < len(parts)}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": f"/api/hooks/{name}", "raw_path": b"", "query_string": b"", "root_path": "",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        }  # fmt: skip
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], orjson.loads(b"".join(message.get("body", b"") for message in sent[1:]))

    def send(
        self, delivery: str, body: bytes = b'{"sha": "abc"}', *, secret: str = SECRET, late: int = 0, name: str = "ci"
    ) -> tuple[int, Any]:
        timestamp = int(self.store.clock.now().timestamp()) - late
        headers = {
            "webhook-id": delivery,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": f"v1,AAAA {sign(secret, delivery, timestamp, body)}",
        }
        return self.call(name, headers, body)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_SECRET", SECRET)


def make(project: ModuleType, **options: Any) -> Schedule:
    return Schedule(
        project.keep_books,
        on=[webhook("ci", secret="CI_SECRET", **options)],
        name="builds",
        parameters={"body": event("bodies")},
        policy=Policy(one_at_a_time=False),
    )


@pytest.mark.usefixtures("secret")
def test_a_signed_call_starts_one_run(any_store: Store, project: ModuleType, book: Book) -> None:
    schedule, caller = make(project), Caller(any_store)
    assert caller.send("m1")[0] == 404  # nobody has declared it yet
    tick(any_store, [schedule])
    assert caller.send("m1") == (202, {"delivery": "m1", "accepted": True})
    assert caller.send("m1")[0] == 409
    assert caller.send("m2", b"plain words")[0] == 202
    (report,) = tick(any_store, [schedule])
    assert (report.verdict, report.reason) == ("fired", "2 new deliveries: m1, m2")
    assert book() == ["[{'sha': 'abc'}, 'plain words']"]
    assert tick(any_store, [schedule])[0].verdict == "quiet"
    assert caller.send("m1")[0] == 409


@pytest.mark.usefixtures("secret")
def test_each_delivery_may_have_its_own_run_and_each_schedule_gets_all(
    store: Store, project: ModuleType, book: Book
) -> None:
    each, caller = make(project, each=True), Caller(store)
    other = Schedule(project.keep_books, on=each.on, name="other", policy=Policy(one_at_a_time=False))
    tick(store, [each, other])
    for number in range(3):
        caller.send(f"m{number}")
    found = [report.name for report in tick(store, [each, other]) if report.verdict == "fired"]
    assert found == ["builds"] * 3 + ["other"] * 3


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("change", "code", "hint"),
    [
        ({"secret": "another"}, 401, "does not fit"),
        ({"late": 301}, 401, "301 seconds"),
        ({"late": -301}, 401, "301 seconds"),
        ({"name": "cd"}, 404, "no webhook"),
        ({"body": b"x" * (LIMIT + 1)}, 413, "more than"),
        ({"body": b"\xff\xfe"}, 400, "not text"),
        ({"body": b"a\0b"}, 400, "zero"),
        ({"delivery": "d" * 201}, 401, "webhook-id"),
        ({"delivery": ""}, 401, "webhook-id"),
        ({"late": 299}, 202, ""),
        ({"body": b"x" * LIMIT}, 202, ""),
    ],
)
def test_who_is_let_in(store: Store, project: ModuleType, change: dict[str, Any], code: int, hint: str) -> None:
    tick(store, [make(project)])
    found = Caller(store).send(**({"delivery": "m1"} | change))
    assert found[0] == code
    assert hint in str(found[1])
    with store.database.reading() as tx:
        assert len(tx.rows("SELECT id FROM trigger_delivery")) == (code == 202)


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_needed(store: Store, project: ModuleType, book: Book, missing: str) -> None:
    tick(store, [make(project)])
    headers = {"webhook-id": "m1", "webhook-timestamp": "1", "webhook-signature": "v1,A"}
    assert Caller(store).call("ci", {name: headers[name] for name in headers if name != missing}, b"")[0] == 401


@pytest.mark.usefixtures("secret")
def test_a_signature_of_other_bytes_does_not_fit(store: Store, project: ModuleType, book: Book) -> None:
    tick(store, [make(project)])
    now = int(store.clock.now().timestamp())
    good = sign(SECRET, "m1", now, b"1")
    calls = [("m1", now, b"2"), ("m2", now, b"1"), ("m1", now + 1, b"1")]
    for delivery, timestamp, body in calls:
        headers = {"webhook-id": delivery, "webhook-timestamp": str(timestamp), "webhook-signature": good}
        assert Caller(store).call("ci", headers, body)[0] == 401
    headers = {"webhook-id": "m1", "webhook-timestamp": str(now), "webhook-signature": good}
    assert Caller(store).call("ci", headers, b"1")[0] == 202
    assert Caller(store).call("ci", headers, b"1", method="GET")[0] == 405


def test_a_server_without_the_secret_says_so_and_lets_nobody_in(
    store: Store, project: ModuleType, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_SECRET", SECRET)
    tick(store, [make(project)])
    monkeypatch.delenv("CI_SECRET")
    code, said = Caller(store).send("m1")
    assert (code, "CI_SECRET" in said["mend"] or "CI_SECRET" in said["error"]) == (503, True)


@pytest.mark.usefixtures("secret")
def test_silence_of_a_webhook_is_noticed_and_old_deliveries_go(store: Store, project: ModuleType, book: Book) -> None:
    hook = webhook("ci", secret="CI_SECRET")
    schedule = Schedule(project.keep_books, on=[absent(hook, "2d")], name="silence")
    tick(store, [make(project), schedule])
    caller, found = Caller(store), []
    assert isinstance(store.clock, ManualClock)
    for day in range(40):
        if day in (0, 1, 35):
            assert caller.send(f"m{day}")[0] == 202
        found += [day for report in tick(store, [schedule]) if report.verdict == "fired"]
        store.clock.advance(timedelta(days=1))
    assert found == [3, 37]
    with store.database.reading() as tx:
        assert [row["id"] for row in tx.rows("SELECT id FROM trigger_delivery")] == ["m35"]
    assert RETENTION.days == 30
