"""The description of the server: valid OpenAPI, true to the signatures, and every example works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tidewheel.serving.routes import match

if TYPE_CHECKING:
    from tests.serving.conftest import Shop


@pytest.fixture
def market(shop: Shop) -> Shop:
    """Several models of every kind of field, one on trial, one with an awkward name."""
    for kind, model in (("colors", "paint"), ("line", "north/line.v1"), ("wider", "wider")):
        shop.register(kind, model)
        shop.deploy(1, model)
    shop.deploy(1, challenger=2, share=0.5)
    return shop


def described(shop: Shop) -> dict[str, Any]:
    response = shop.get("/openapi.json")
    assert response.status == 200
    content: dict[str, Any] = json.loads(response.body)
    return content


def operations(spec: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in spec["paths"].items():
        for verb, operation in verbs.items():
            yield path, verb.upper(), operation


def test_the_description_is_valid_openapi(market: Shop) -> None:
    spec = described(market)
    OpenAPIV31SpecValidator(spec).validate()
    names = [operation["operationId"] for _, _, operation in operations(spec)]
    assert len(names) == len(set(names))


def test_every_described_path_is_one_that_is_answered(market: Shop) -> None:
    for path, verb, _ in operations(described(market)):
        assert match(verb, path).allowed, path


def test_every_example_works(market: Shop) -> None:
    from urllib.parse import unquote

    tried = 0
    for path, verb, operation in operations(described(market)):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            for name, example in content.get("examples", {}).items():
                value = example["value"]
                body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                response = market.engine.handle(verb, unquote(path), [(b"content-type", kind.encode())], body)
                assert response.status == 200, (path, name, response.body)
                tried += 1
    assert tried > 4 * 6


def test_what_can_be_asked_without_a_body_is_answered(market: Shop) -> None:
    from urllib.parse import unquote

    for path, verb, _ in operations(described(market)):
        if verb == "GET":
            response = market.get(unquote(path))
            assert response.status == 200, (path, response.body)


def test_rows_are_described_by_the_signature(market: Shop) -> None:
    schemas = described(market)["components"]["schemas"]
    row = schemas["paint.Row"]
    assert row["required"] == ["color", "size", "new"]
    assert row["properties"]["size"]["type"] == ["number", "null"]
    assert row["properties"]["color"]["x-training-categories"] == ["green", "red"]
    assert row["properties"]["new"]["type"] == "boolean"
    low, high = schemas["bikes.Row"]["properties"]["n"]["x-training-range"]
    assert (low, high) == (0, 8)
    answer = schemas["paint.Answer"]["properties"]
    assert answer["predictions"]["items"] == {"type": ["string"]}
    assert "probabilities" not in schemas["north_line.v1.Answer"]["properties"]


def test_one_model_is_asked_without_its_name(shop: Shop) -> None:
    assert "/invocations" in described(shop)["paths"]
    shop.register("line", "line")
    shop.deploy(1, "line")
    assert "/invocations" not in described(shop)["paths"]
    assert "/invocations/line" in described(shop)["paths"]


def test_keys_are_described_once_they_are_needed(shop: Shop) -> None:
    spec = described(shop)
    assert spec["security"] == [{}]
    assert set(spec["components"]["securitySchemes"]) == {"bearer", "key"}
