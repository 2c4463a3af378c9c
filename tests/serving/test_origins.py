"""Pages of other origins: those that are named may ask, nobody sends cookies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.errors import InvalidInput
from tidewheel.serving.manner import Manner
from tidewheel.serving.origins import CrossOrigin

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}
SHOP = b"https://shop.example"


def ask(engine: CrossOrigin, method: str, origin: bytes = b"", **headers: bytes) -> tuple[int, dict[bytes, bytes]]:
    sent = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    if origin:
        sent.append((b"origin", origin))
    found: list[Any] = []
    if engine.submit(method, "/predict/bikes", sent, json.dumps(ROW).encode(), found.append):
        engine.flush()
    direct = engine.handle(method, "/predict/bikes", sent, json.dumps(ROW).encode())
    assert direct.status == found[0].status
    assert {name for name, _ in direct.headers} == {name for name, _ in found[0].headers}
    return found[0].status, dict(found[0].headers)


def test_a_named_origin_may_ask_and_another_learns_nothing(shop: Shop) -> None:
    engine = CrossOrigin(shop.engine, ["https://shop.example"])
    status, headers = ask(engine, "POST", SHOP)
    assert (status, headers[b"access-control-allow-origin"], headers[b"vary"]) == (200, SHOP, b"origin")
    for other in (b"https://evil.example", b"http://shop.example", b"https://shop.example.evil", b"null", b""):
        status, headers = ask(engine, "POST", other)
        assert status == 200
        assert b"access-control-allow-origin" not in headers
        assert headers[b"vary"] == b"origin"


def test_a_preflight_says_what_may_be_sent(shop: Shop) -> None:
    engine = CrossOrigin(shop.engine, ["https://shop.example"])
    status, headers = ask(engine, "OPTIONS", SHOP, access_control_request_method=b"POST")
    assert status == 204
    assert b"POST" in headers[b"access-control-allow-methods"]
    assert b"authorization" in headers[b"access-control-allow-headers"]
    status, headers = ask(engine, "OPTIONS", b"https://evil.example", access_control_request_method=b"POST")
    assert (status, headers) == (403, {b"vary": b"origin"})
    assert ask(engine, "OPTIONS", SHOP)[0] == 405  # no preflight


@pytest.mark.parametrize("origins", [["*"], ["*", "https://shop.example"], ["https://shop.example"]])
def test_credentials_are_never_allowed(shop: Shop, origins: list[str]) -> None:
    engine = CrossOrigin(shop.engine, origins)
    for method in ("POST", "OPTIONS"):
        _, headers = ask(engine, method, SHOP, access_control_request_method=b"POST")
        assert headers[b"access-control-allow-origin"] in (b"*", SHOP)
        assert b"access-control-allow-credentials" not in headers


@pytest.mark.parametrize("origin", ["shop.example", "https://", "https://shop.example/", "ftp://x", "https://a b"])
def test_what_no_browser_sends_is_no_origin(origin: str) -> None:
    with pytest.raises(InvalidInput, match="is no origin"):
        Manner(origins=(origin,))
