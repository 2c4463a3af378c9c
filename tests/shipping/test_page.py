"""The page of a shipped model answers in a real Chromium what the store's own scorer answers."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tidewheel.errors import NotFound
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.versions import get_model
from tidewheel.shipping.ways import Wishes, ship

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not there; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, yard: Any) -> Path:
    """The files of ONNX Runtime Web, as npm brings them with the first page."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not there; install it: apt-get install npm")
    out = tmp_path_factory.mktemp("first") / "page"
    ship(yard.store, "trees", "page", out)
    return out


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "site"
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", folder
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.mark.browser
@pytest.mark.parametrize("name", ["trees", "colors", "line"])
def test_the_page_answers_like_the_store(
    browser: Browser, runtime: Path, address: tuple[str, Path], yard: Any, name: str
) -> None:
    url, folder = address
    ship(yard.store, name, "page", folder, Wishes(runtime=runtime))
    rows = [list(row) for row in yard.rows[name].head(40).rows()]
    page = browser.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(url)
    page.wait_for_function("window.scoring !== undefined", timeout=30_000)
    answer = page.evaluate("rows => window.scoring.predict(rows)", rows)
    bundle = load_bundle(yard.store, get_model(yard.store, name).bundle_digest)
    scores: Any = bundle.scorer().score_rows(rows)
    if name == "line":
        np.testing.assert_allclose(answer["predictions"], scores.prediction, rtol=1e-5)
    else:
        assert answer["predictions"] == scores.prediction.tolist()
        np.testing.assert_allclose(answer["probabilities"], scores.probabilities, rtol=1e-5, atol=1e-6)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#answer")).not_to_be_empty()
    assert trouble == []
    page.close()


def test_a_runtime_that_is_not_there_is_named(yard: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="onnxruntime-web"):
        ship(yard.store, "trees", "page", tmp_path / "page", Wishes(runtime=tmp_path))
