"""Turn the state into HTML: the templates, their filters and the drawn charts."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tidewheel.web import chart, wording
from tidewheel.web.flow import draw_flow
from tidewheel.web.records import Chart, LoopState, Status
from tidewheel.web.run_records import RunList, RunPage

CALLS_A_SECOND = 1_000  # a run of more calls is read anew less often
TEMPLATES = Path(__file__).parent / "templates"
FILTERS = (
    wording.ago,
    wording.alerts_line,
    wording.clock_time,
    wording.count,
    wording.evidence_part,
    wording.exact,
    wording.headline,
    wording.last_value,
    wording.metric_names,
    wording.metric_title,
    wording.metric_unit,
    wording.number,
    wording.short_id,
    wording.span,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The charts of a loop, drawn over one stretch of time."""

    begins: str  # left edge, in words
    ends: str  # right edge, in words
    reigns: Markup  # which version was champion when
    charts: tuple[tuple[Chart, Markup], ...]  # each chart with its picture


class Renderer:
    """Writes the documents; every value is escaped unless it was drawn here."""

    def __init__(self, *, refresh_seconds: float) -> None:
        self.refresh_seconds = refresh_seconds
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"version": version("tidewheel"), "refresh_seconds": refresh_seconds}
        self._templates.filters |= {function.__name__: function for function in FILTERS}
        self._templates.filters |= {"seconds": wording.seconds}

    def page(self, status: Status) -> str:
        """Return the whole page."""
        return self._render("page.html", status)

    def fragment(self, status: Status) -> str:
        """Return the part of the page that renews itself."""
        return self._render("now.html", status)

    def run_list(self, runs: RunList, *, whole: bool, query: str) -> str:
        """Return the list of runs, or the part of it that renews itself; `query` are its filters."""
        name = "runs_page.html" if whole else "runs_now.html"
        return self._templates.get_template(name).render(status=runs, query=query)

    def run(self, page: RunPage, *, whole: bool, step: str) -> str:
        """Return the page of a run, or the part of it that renews itself; `step` is the one that was asked for."""
        name = "run_page.html" if whole else "run_now.html"
        links = {row.name: f"?step={quote(row.name)}#step" for row in page.steps}
        picture = draw_flow(page.graph, links)
        pause = max(self.refresh_seconds, sum(row.calls for row in page.steps) / CALLS_A_SECOND)
        return self._templates.get_template(name).render(status=page, step=step, picture=picture, pause=round(pause, 1))

    def sorry(self, what: str, mend: str) -> str:
        """Return a page that says what went wrong and how to mend it."""
        return self._templates.get_template("sorry.html").render(what=what, mend=mend)

    def _render(self, name: str, status: Status) -> str:
        drawn = draw(status.shown) if status.shown else None
        return self._templates.get_template(name).render(status=status, drawn=drawn)


def draw(state: LoopState) -> Drawn | None:
    """Draw the charts of a loop; None when there is nothing to draw yet."""
    span = chart.span_of(state.charts, state.marks)
    if span is None:
        return None
    length = span.ends - span.begins
    return Drawn(
        begins=wording.axis(span.begins, length),
        ends=f"{wording.axis(span.ends, length)} UTC",
        reigns=chart.draw_reigns(state.reigns, span),
        charts=tuple(
            (item, chart.draw_chart(item, span, state.marks, height=chart.LOW if place else chart.TALL))
            for place, item in enumerate(state.charts)
        ),
    )
