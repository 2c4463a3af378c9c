"""Who may ask: keys are made once, known by digest alone, and open exactly what they say."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.clock import ManualClock
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.serving.engine import Engine
from tidewheel.serving.gate import VARIABLE, Gate
from tidewheel.serving.keys import VERBS, create_key, list_keys, revoke_key
from tidewheel.serving.response import Response
from tidewheel.serving.terms import Terms, check_exposed

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}
SECRET = "a-secret-of-the-container-0123456789"
ASKS: dict[str, tuple[str, str, Any]] = {
    "predict": ("POST", "/predict/{model}", {"rows": [ROW]}),
    "infer": (
        "POST",
        "/v2/models/{model}/infer",
        {"inputs": [{"name": name, "datatype": "FP64", "shape": [1], "data": [1.0]} for name in ROW]},
    ),
    "versioned": (
        "POST",
        "/v2/models/{model}/versions/1/infer",
        {"inputs": [{"name": name, "datatype": "FP64", "shape": [1], "data": [1.0]} for name in ROW]},
    ),
    "outcomes": ("POST", "/outcomes", {"outcomes": [{"id": "r", "label": 1}], "model": "{model}"}),
    "model": ("GET", "/v2/models/{model}", None),
    "ready": ("GET", "/v2/models/{model}/ready", None),
}
NEEDS = {"predict": "predict", "infer": "predict", "versioned": "predict", "outcomes": "outcomes", "model": "read"}


@pytest.fixture
def two(shop: Shop) -> Shop:
    """Two models, `bikes` and `cars`."""
    shop.register("up", "cars")
    shop.deploy(1, "cars")
    return shop


def made(shop: Shop, name: str = "k", **scope: Any) -> str:
    secret = create_key(shop.store, name, by="ann", **scope).secret
    shop.engine.refresh()
    return secret


def ask(engine: Engine, what: str, secret: str = "", model: str = "bikes") -> Response:
    method, path, body = ASKS[what]
    text = json.dumps(body).replace("{model}", model).encode() if body else b""
    headers = [(b"authorization", b"Bearer " + secret.encode())] if secret else []
    return engine.handle(method, path.replace("{model}", model), headers, text)


def error(response: Response) -> str:
    content = json.loads(response.body)
    return f"{content['error']} {content['mend']}"


def test_everybody_may_ask_until_a_key_is_made_and_nobody_when_all_are_revoked(shop: Shop) -> None:
    assert ask(shop.engine, "predict").status == 200
    secret = made(shop)
    assert ask(shop.engine, "predict").status == 401
    assert ask(shop.engine, "predict", secret).status == 200
    revoke_key(shop.store, "k", by="bo", reason="leaked")
    assert ask(shop.engine, "predict", secret).status == 200  # until the next look
    shop.engine.refresh()
    refused = ask(shop.engine, "predict", secret)
    assert (refused.status, "'k' was revoked" in error(refused)) == (401, True)
    assert ask(shop.engine, "predict").status == 401


def test_nobody_comes_in_before_the_keys_were_read(shop: Shop) -> None:
    assert Gate(shop.store, lambda: 0).refusal({}, "predict", "bikes") is not None


def test_a_key_expires_without_another_look(shop: Shop) -> None:
    secret = made(shop, expires=timedelta(hours=1))
    assert ask(shop.engine, "predict", secret).status == 200
    clock = shop.store.clock
    assert isinstance(clock, ManualClock)
    clock.advance(timedelta(hours=1))
    refused = ask(shop.engine, "predict", secret)
    assert (refused.status, "has expired" in error(refused)) == (401, True)


@pytest.mark.parametrize("what", sorted(NEEDS))
@pytest.mark.parametrize("verb", VERBS)
def test_a_key_opens_its_verbs_and_its_models_alone(two: Shop, verb: str, what: str) -> None:
    secret = made(two, verbs=[verb], models=["bikes"])
    wanted = NEEDS[what] == verb
    response = ask(two.engine, what, secret)
    assert response.status in ((200, 202) if wanted else (403,)), response.body
    foreign = ask(two.engine, what, secret, "cars")
    assert foreign.status == 403
    assert ("'cars'" in error(foreign)) == (wanted or what != "outcomes")
    assert ask(two.engine, what, secret, "nowhere").status == (404 if wanted and what == "outcomes" else 403)


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/", "/v2"])
def test_what_concerns_all_models_needs_a_key_for_all(two: Shop, path: str) -> None:
    all_of_them, one = made(two, "all", verbs=["read"]), made(two, "one", verbs=["read"], models=["bikes"])
    statuses = [
        two.engine.handle("GET", path, [(b"x-api-key", secret.encode())], b"").status for secret in (all_of_them, one)
    ]
    assert statuses == [200, 200 if path == "/v2" else 403]
    assert two.engine.handle("GET", path, [], b"").status == 401


def test_probes_stay_open_and_name_nothing(two: Shop) -> None:
    secret = made(two, verbs=["read"])
    for path in ("/v2/health/live", "/v2/health/ready"):
        response = two.engine.handle("GET", path, [], b"")
        assert response.status == 200
        assert b"bikes" not in response.body
    assert b"bikes" in two.engine.handle("GET", "/v2/health/ready", [(b"x-api-key", secret.encode())], b"").body


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic %(secret)s")],
        [(b"authorization", b"%(secret)s")],
        [(b"authorization", b"Bearer %(secret)s x")],
        [(b"authorization", b"Bearer %(secret)s\x00")],
        [(b"authorization", b"Bearer %(secret)sx")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"Bearer %(secret)s")],
        [(b"x-api-key", b"%(digest)s")],
        [(b"x-api-key", b"x" * 1_000_000)],
        [(b"x-api-key", b"\xff\xfe")],
        [(b"x-api-key", b"wrong"), (b"authorization", b"Bearer %(secret)s")],
    ],
)
def test_what_is_no_key_opens_nothing(shop: Shop, headers: list[tuple[bytes, bytes]]) -> None:
    secret = made(shop).encode()
    values = {b"secret": secret, b"digest": hashlib.sha256(secret).hexdigest().encode()}
    sent = [(name, value % values if b"%(" in value else value) for name, value in headers]
    response = shop.engine.handle("POST", "/predict/bikes", sent, b"{}")
    assert response.status == 401
    assert secret not in response.body
    assert (b"x-api-key" in response.body) or (b"authorization" in response.body)


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
def test_the_scheme_is_read_whatever_its_case(shop: Shop, scheme: bytes) -> None:
    sent = [(b"authorization", scheme + made(shop).encode())]
    assert shop.engine.handle("POST", "/predict/bikes", sent, json.dumps(ROW).encode()).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/predict/cars",
        "/predict//cars",
        "/predict/bikes/../cars",
        "/predict/./cars",
        "/Predict/cars",
        "/predict/CARS",
        "/predict/cars/",
        "//predict/cars",
        "/predict/bikes%2f..%2fcars",
        "/predict/cars?model=bikes",
        "/predict/cars#bikes",
        "/predict/bikes\x00cars",
        "/v2/models/cars/infer",
        "/v2/models//cars/infer",
        "/v2/models/bikes/../cars/infer",
        "/v2/models/cars/versions/1/infer",
        "/v2/models/bikes/versions/1/../../../cars/infer",
        "/v2/models/cars/versions/bikes/infer",
        "/v2/models/bikes/infer/versions/1/infer",
        "/invocations/cars",
    ],
)
def test_no_path_leads_around_the_scope(two: Shop, path: str) -> None:
    """Whatever model a path means, that one is judged: nothing but a refusal comes back, and nothing is logged."""
    secret = made(two, verbs=VERBS, models=["bikes"]).encode()
    for body in (json.dumps({"rows": [ROW]}).encode(), json.dumps(ASKS["infer"][2]).encode()):
        response = two.engine.handle("POST", path, [(b"x-api-key", secret)], body)
        assert response.status in (403, 404), (path, response.body)
    assert two.log("cars") == []


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["predict", "v2", "models", "bikes", "cars", "infer", "versions", "1", "..", ""])))
def test_whatever_is_answered_was_judged(parts: list[str]) -> None:
    """The name that the gate is asked about is the name of the model that answers: both are one match."""
    from tidewheel.serving.routes import match

    path = "/" + "/".join(parts)
    try:
        found = match("POST", path)
    except NotFound:
        return
    judged = found.values.get("model", "")
    assert judged in path
    assert ("cars" not in path) or judged != "bikes"


def test_a_body_that_is_too_large_is_not_logged_for_a_stranger(shop: Shop) -> None:
    made(shop)
    response = shop.engine.oversized("POST", "/predict/bikes", [])
    assert (response.status, shop.log()) == (401, [])


def test_a_secret_of_the_environment_opens_all_but_manage(shop: Shop) -> None:
    engine = Engine(shop.store, writer="w1", terms=Terms(secret=SECRET))
    engine.refresh()
    assert ask(engine, "predict").status == 401
    assert ask(engine, "predict", SECRET).status == 200
    assert engine.gate.refusal({b"x-api-key": SECRET.encode()}, "manage", "bikes") is not None
    assert SECRET not in repr(Terms(secret=SECRET))
    for weak in ("short", "x" * 201, "with a space in the middle of it", "ümlaut-ümlaut-ümlaut"):
        with pytest.raises(InvalidInput, match=VARIABLE) as caught:
            Terms(secret=weak)
        assert weak not in str(caught.value)
    engine.close()


def test_anonymous_callers_are_let_in_where_that_is_said_but_wrong_keys_are_not(shop: Shop) -> None:
    made(shop)
    engine = Engine(shop.store, writer="w1", terms=Terms(anonymous=True))
    engine.refresh()
    assert [ask(engine, "predict", secret).status for secret in ("", "wrong")] == [200, 401]
    assert engine.gate.refusal({}, "manage", None) is not None
    engine.close()


def test_other_machines_are_answered_only_where_a_key_is_asked_for(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="tidewheel keys create"):
        check_exposed(shop.store, Terms(), "0.0.0.0")
    check_exposed(shop.store, Terms(secret=SECRET), "0.0.0.0")
    check_exposed(shop.store, Terms(anonymous=True), "0.0.0.0")
    made(shop)
    check_exposed(shop.store, Terms(), "0.0.0.0")
    revoke_key(shop.store, "k")
    with pytest.raises(InvalidInput, match="no API key"):
        check_exposed(shop.store, Terms(), "0.0.0.0")


def test_a_secret_is_stored_nowhere(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    new = create_key(shop.store, "k", by="ann", models=["bikes"], expires=timedelta(days=90))
    shop.engine.refresh()
    ask(shop.engine, "predict", new.secret)
    shop.engine.sync()
    assert new.secret not in repr(new)
    files = [path for path in shop.store.home.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not any(new.secret.encode() in path.read_bytes() for path in files)
    assert new.secret not in caplog.text


def test_keys_are_governed_by_the_audit_chain(any_store: Store) -> None:
    create_key(any_store, "shop", models=["bikes"], verbs=["read", "predict"], by="ann")
    revoke_key(any_store, "shop", by="bo", reason="found in public")
    revoke_key(any_store, "shop", by="cy")
    with any_store.database.reading() as tx:
        events = list(list_events(tx, type_prefix="key.", limit=10))
        assert verify_chain(tx).intact
    assert [(event.type, event.by, event.governs) for event in events] == [
        ("key.created", "ann", True),
        ("key.revoked", "bo", True),
    ]
    (key,) = list_keys(any_store)
    assert (key.name, key.models, key.verbs, key.usable(any_store.clock.now())) == (
        "shop", ("bikes",), ("predict", "read"), False,
    )  # fmt: skip


def test_wrong_wishes_are_refused(store: Store) -> None:
    create_key(store, "shop")
    with pytest.raises(Conflict, match="another name"):
        create_key(store, "shop")
    with pytest.raises(NotFound, match="predict"):
        create_key(store, "x", verbs=["predct"])
    with pytest.raises(InvalidInput, match="Give it verbs"):
        create_key(store, "x", verbs=[])
    with pytest.raises(InvalidInput, match="90d"):
        create_key(store, "x", expires=timedelta(0))
    with pytest.raises(NotFound, match="shop"):
        revoke_key(store, "shpo")


def test_refusals_are_counted_by_reason(shop: Shop) -> None:
    secret, reader = made(shop), made(shop, "r", verbs=["read"])
    ask(shop.engine, "predict")
    ask(shop.engine, "predict", "wrong")
    ask(shop.engine, "model", secret)
    text = shop.engine.handle("GET", "/metrics", [(b"x-api-key", reader.encode())], b"").body.decode()
    for reason in ("missing", "unknown", "scope"):
        assert f'tidewheel_keys_refused_total{{reason="{reason}"}} 1' in text
