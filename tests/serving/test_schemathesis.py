"""Requests that schemathesis makes up from our own description, right and wrong ones, sent to a real server.

No mistake of a caller is answered with 5xx; statuses, content types and bodies are as described; right rows are scored,
wrong ones are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.serving.test_clients import Running

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ALWAYS: tuple[Any, ...] = (
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
TRIES = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    with Running(shop.engine) as running:
        yield f"http://127.0.0.1:{running.http_port}"


def send(strategy: Any, checks: tuple[Any, ...]) -> int:
    """Send requests of one kind; return how many."""
    tried: list[str] = []

    @TRIES
    @given(strategy)
    def one(case: Any) -> None:
        tried.append(case.path)
        case.call_and_validate(checks=checks)

    one()
    return len(tried)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_described_is_what_happens(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    found: Any
    for found in schema.get_all_operations():
        operation: Any = found.ok()
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and not operation.body and not operation.headers:
                continue  # nothing to be wrong about
            checks = ALWAYS
            # Of tensors and tables the description tells the form alone: that sizes and columns fit is beyond a schema.
            if operation.path.startswith("/predict/"):
                checks = (*ALWAYS, negative_data_rejection if mode.is_negative else positive_data_acceptance)
            tried += send(operation.as_strategy(generation_mode=mode), checks)
    assert tried > 200
