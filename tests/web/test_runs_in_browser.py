"""Pages of runs in a real Chromium: a run is followed to its end, filters work, a reader without eyes finds the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.web.chromium import CHROMIUM, CONTRAST, FLAGS

import tidewheel
from tidewheel.errors import StepFailed
from tidewheel.pipelines.find import Wanted, find_runs
from tidewheel.project import App
from tidewheel.web.serve import create_app

pytestmark = pytest.mark.browser
FLOW = """
from pathlib import Path
import time
import polars as pl
from tidewheel import pipeline, step

@step
def clean(rows: pl.DataFrame) -> pl.DataFrame:
    print("cleaning", rows.height, "rows of a table", "x" * 300)
    return rows.drop_nulls()

@step
def fit(rows: pl.DataFrame, depth: int) -> float:
    if depth == 9:
        raise ValueError("too deep")
    return rows["a"].mean() * depth

@step
def wait(gate: str) -> bool:
    while not Path(gate).exists():
        time.sleep(0.01)
    return True

@pipeline
def small(rows: pl.DataFrame, depth: int = 2):
    return [fit(clean(rows), d) for d in (depth, depth + 1)]

@pipeline
def slow(gate: str):
    return wait(gate)
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "browsed.py").write_text(FLOW)
    opened = tidewheel.open(folder / "home")
    opened.run(f"{folder / 'browsed.py'}:small", rows=pl.DataFrame({"a": [1, 2, None], "b": ["x", "y", "z"]}))
    with pytest.raises(StepFailed):
        opened.run(f"{folder / 'browsed.py'}:small", rows=pl.DataFrame({"a": [1, 2]}), depth=8)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(app: App) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ready = threading.Event()

    class Ready(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    server = Ready(uvicorn.Config(create_app(app.store), port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = server.force_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not there; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    assert complaints == []
    context.close()


def run_of(app: App, state: str) -> str:
    return find_runs(app.store, Wanted(pipeline="small", states=(state,)))[0].id


def test_a_run_is_followed_to_its_end(app: App, address: str, page: Page, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    target = f"{app.store.home.parent / 'browsed.py'}:slow"
    other = tidewheel.open(app.store.home)
    runner = threading.Thread(target=lambda: other.run(target, gate=str(gate)))
    runner.start()
    page.goto(f"{address}/runs?pipeline=slow")
    page.locator("tbody tr a").first.click(timeout=30_000)
    expect(page.locator(".headline")).to_contain_text("1 running", timeout=30_000)
    assert page.locator("#state").get_attribute("hx-get") is not None
    gate.touch()
    expect(page.locator(".title .chip").first).to_have_text("succeeded", timeout=30_000)
    expect(page.locator("#state[hx-get]")).to_have_count(0)  # it has ended: nothing is asked for any more
    runner.join(60)
    other.close()


def test_filters_and_links_lead_to_a_step(app: App, address: str, page: Page) -> None:
    page.goto(f"{address}/")
    page.get_by_role("link", name="Runs").click()
    page.get_by_label("pipeline").select_option("small")
    page.get_by_label("state").select_option("FAILED")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody tr a").click()
    page.get_by_role("link", name="clean: committed").click()
    expect(page.locator("#step pre.log")).to_contain_text("cleaning 2 rows")
    expect(page.locator("#step-title")).to_have_text("clean")
    page.get_by_role("link", name="The same as JSON").click()
    expect(page.locator("body")).to_contain_text('"shown":{"name":"clean"')


@pytest.mark.parametrize("width", [380, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_text_stands_out(
    app: App, address: str, page: Page, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for path in ("/runs", f"/runs/{run_of(app, 'SUCCEEDED')}?step=clean", f"/runs/{run_of(app, 'FAILED')}?step=fit-2"):
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        texts = ["h1", "p", "td", "th", ".chip", ".quiet", "pre", "label", "button", "nav a", "dt", "dd"]
        found = page.evaluate(CONTRAST, texts)
        assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


def test_a_reader_without_eyes_finds_the_way(app: App, address: str, page: Page) -> None:
    for path in ("/runs", f"/runs/{run_of(app, 'FAILED')}?step=fit-2"):
        page.goto(address + path)
        for role in ("banner", "main", "contentinfo"):
            expect(page.get_by_role(role)).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        unnamed = "svg[role]:not([aria-label]), th:not([scope]), img:not([alt]), pre:not([tabindex])"
        expect(page.locator(unnamed)).to_have_count(0)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
