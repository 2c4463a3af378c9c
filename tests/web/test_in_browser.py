"""The page in a real Chromium: it updates by itself, keeps the reader's place, and needs nothing from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from tests.web.chromium import CHROMIUM, CONTRAST, FLAGS

from tidewheel.web.pages import page_app
from tidewheel.web.records import Status

pytestmark = pytest.mark.browser


@dataclass
class Site:
    """A page on a socket whose state a test may exchange while it is open."""

    status: Status
    port: int
    asked: list[str | None] = field(default_factory=list)
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def read(self, model: str | None) -> Status:
        self.asked.append(model)
        return self.status

    def start(self) -> None:
        ready = threading.Event()

        class Ready(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                ready.set()

        app = page_app(self.read, refresh_seconds=0.2)
        self.server = Ready(uvicorn.Config(app, port=self.port, log_level="warning", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        assert ready.wait(20)

    def stop(self) -> None:
        if self.server and self.thread:
            self.server.should_exit = True
            self.server.force_exit = True
            self.thread.join(20)


@pytest.fixture
def site(busy: Status) -> Iterator[Site]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    opened = Site(status=busy, port=port)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not there; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Tab:
    """A page that a test looks at, with all that it complained of or asked for elsewhere."""

    page: Page
    complaints: list[str]
    outside: list[str]


def open_tab(context: BrowserContext, site: Site) -> Tab:
    """Open the page with every other host out of reach."""
    page = context.new_page()
    tab = Tab(page=page, complaints=[], outside=[])

    def only_here(route: Route) -> None:
        if route.request.url.startswith(site.address):
            route.continue_()
        else:
            tab.outside.append(route.request.url)
            route.abort()

    page.route("**/*", only_here)
    page.on("console", lambda message: tab.complaints.append(message.text))
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    page.goto(site.address)
    return tab


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield open_tab(context, site)
    context.close()


def later(site: Site) -> Status:
    """The state after version 5 has been promoted."""
    state = site.status.shown
    assert state is not None
    assert state.traffic is not None
    traffic = replace(state.traffic, champion=5, challenger=None, share=0.0, reason="not worse, proven")
    return replace(site.status, shown=replace(state, traffic=traffic, rollout=None, running=(), alerts=()))


def test_it_shows_the_state_and_asks_nothing_from_outside(tab: Tab) -> None:
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("digits")
    expect(tab.page.locator(".headline")).to_contain_text("Version 3 serves; version 5 answers 25 %")
    expect(tab.page.locator(".charts figure")).to_have_count(4)
    expect(tab.page.locator("#runs-title ~ .scroll tbody tr")).to_have_count(4)
    assert tab.outside == []
    assert tab.complaints == []


def test_it_updates_by_itself_and_keeps_the_readers_place(tab: Tab, site: Site) -> None:
    page = tab.page
    page.evaluate("window.loadedOnce = true")
    page.locator("[aria-labelledby=versions-title][role=region]").focus()
    page.evaluate("window.scrollTo(0, 400)")
    site.status = later(site)
    expect(page.locator(".headline")).to_contain_text("Version 5 serves every request. No alert is open.")
    expect(page.locator(".alerts")).to_have_count(0)
    assert page.evaluate("window.loadedOnce")
    assert page.evaluate("window.scrollY") == 400
    assert page.evaluate("document.activeElement.getAttribute('aria-labelledby')") == "versions-title"
    assert set(site.asked[1:]) == {"digits"}
    assert tab.complaints == []


def test_it_says_when_the_server_is_gone_and_recovers(tab: Tab, site: Site) -> None:
    live = tab.page.locator(".live-word")
    expect(live).to_have_text("live")
    site.stop()
    expect(live).to_have_text("connection lost, state of")
    expect(tab.page.locator(".headline")).to_contain_text("Version 3 serves")
    site.start()
    expect(live).to_have_text("live", timeout=15_000)


def test_an_error_of_the_server_leaves_the_last_state_standing(tab: Tab, site: Site) -> None:
    tab.page.route("**/now?*", lambda route: route.fulfill(status=500, body="<h1>broken</h1>"))
    expect(tab.page.locator(".live-word")).to_have_text("connection lost, state of")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("digits")


def test_a_new_loop_appears_on_an_empty_page(browser: Browser, site: Site, empty: Status, busy: Status) -> None:
    site.status = empty
    context = browser.new_context()
    page = open_tab(context, site).page
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing turns here yet")
    site.status = busy
    expect(page.get_by_role("heading", level=1)).to_have_text("digits")
    context.close()


def test_a_click_shows_another_loop(tab: Tab, site: Site) -> None:
    tab.page.get_by_role("navigation", name="Loops").get_by_role("link", name="bikes").click()
    expect(tab.page).to_have_url(f"{site.address}?model=bikes")
    assert site.asked[-1] in ("bikes", "digits")
    assert "bikes" in site.asked


@pytest.mark.parametrize("name", ["empty", "quiet", "busy", "hostile"])
def test_nothing_is_wider_than_the_screen(
    name: str, browser: Browser, site: Site, request: pytest.FixtureRequest
) -> None:
    site.status = request.getfixturevalue(name)
    context = browser.new_context()
    page = open_tab(context, site).page
    expect(page.locator("main")).to_be_visible()
    widths = {}
    for width in (320, 390, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        widths[width] = page.evaluate("document.documentElement.scrollWidth")
    assert {width: needed for width, needed in widths.items() if needed > width} == {}
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str, browser: Browser, site: Site) -> None:
    """Every kind of text reaches the contrast of WCAG 2.2 AA, 4.5 to 1."""
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    page = open_tab(context, site).page
    expect(page.locator("main")).to_be_visible()
    kinds = [
        "h1", ".headline", ".warn", ".quiet", ".card h2", ".card p", ".steps li", ".chip", ".alerts strong",
        ".alerts span", "th", "td", ".error", ".axis span", ".badge", "nav a", "footer a", ".live", "code",
        ".plot .limit-name", ".mark text", ".ticks text", ".reigns text",
    ]  # fmt: skip
    ratios: dict[str, float] = page.evaluate(CONTRAST, kinds)
    assert set(kinds) - set(ratios) == set()
    assert {kind: round(ratio, 2) for kind, ratio in ratios.items() if ratio < 4.5} == {}
    context.close()


def test_a_reader_without_eyes_finds_the_way(tab: Tab) -> None:
    page = tab.page
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.locator(".headline[role=status]")).to_have_attribute("aria-live", "polite")
    unnamed = "svg[role=img]:not([aria-label]), table th:not([scope]), img:not([alt])"
    expect(page.locator(unnamed)).to_have_count(0)
    assert page.locator("html").get_attribute("lang") == "en"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the state of the loop"


def test_text_from_users_stays_text(browser: Browser, site: Site, hostile: Status) -> None:
    site.status = hostile
    context = browser.new_context()
    tab = open_tab(context, site)
    expect(tab.page.get_by_role("heading", level=1)).to_contain_text("<script>")
    with tab.page.expect_response(lambda response: "/now?" in response.url):
        pass
    assert tab.page.title() != "broken"
    assert tab.page.locator("main script, main img").count() == 0
    assert tab.complaints == []
    context.close()


def test_pointing_at_a_chart_tells_the_window(tab: Tab) -> None:
    group = tab.page.locator("#chart-psi .point").nth(10)
    words = group.locator("text")
    expect(words).to_have_css("opacity", "0")
    group.locator("rect").hover()
    expect(words).to_have_css("opacity", "1")
    expect(words).to_have_text("window 11")
