"""A replica of Ray Serve answers what its proxy brings as the prediction server does."""

from __future__ import annotations

from starlette.testclient import TestClient
from tests.scoring.conftest import numbers

from tidewheel.lineage.store import Store
from tidewheel.scoring.loaded import load_model
from tidewheel.serving.ray_serve import Replica


def test_a_replica_answers_requests(yard: Store) -> None:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    replica = Replica(yard, ["trees"])

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await replica(Request(scope, receive))
        await answer(scope, receive, send)

    client = TestClient(proxy)
    row = numbers(1).drop("id").row(0, named=True)
    found = client.post("/predict/trees", json=row, headers={"X-Request-Id": "r1"})
    assert (found.status_code, found.json()["id"]) == (200, "r1")
    assert found.json()["predictions"] == [load_model(yard, "trees").predict(row)]
    assert client.get("/v2/health/ready").json()["ready"] is True
    assert client.post("/predict/nobody", json=row).status_code == 404
    replica.close()
