"""Draw charts as SVG on the server: no script, sharp on paper and phone, colours from the style sheet.

Positions along time are percentages and text is never scaled, so one drawing fits every width. Lines are drawn
in an inner picture that is stretched, with strokes that keep their width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from tidewheel.web.records import Chart, Mark, Point, Reign
from tidewheel.web.wording import count, number

TOP, FOOT = 20, 18  # pixels above and below the plotting area
TALL, LOW = 190, 104  # pixels of the plotting area of the first chart and of the others
GUTTER = 52  # pixels left of the plotting area, for the values of the grid lines
GRID_PIXELS = 38  # least distance of grid lines, roughly
LABEL_GAP = 1_100.0  # over the height: percent of the width below which a second label would touch the first
REIGN_GAP = 3.0  # percent of the width that a label in the strip of champions needs
GLYPHS = {"retrained": "○", "promoted": "●", "refused": "✕", "rolled back": "◀"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The stretch of time that charts share."""

    begins: datetime  # left edge
    ends: datetime  # right edge

    def percent(self, moment: datetime) -> float:
        """Return where a moment stands, 0 to 100; what lies outside is put on the edge."""
        length = (self.ends - self.begins).total_seconds()
        part = (moment - self.begins).total_seconds() / length if length > 0 else 1.0
        return round(100 * min(max(part, 0.0), 1.0), 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The values that a chart shows."""

    low: float  # value at the bottom
    high: float  # value at the top
    height: int  # pixels between the two
    ticks: tuple[float, ...]  # values of the grid lines

    def pixel(self, value: float) -> float:
        """Return how far a value stands from the top of the picture, in pixels."""
        return TOP + round(self.height * (1 - (value - self.low) / (self.high - self.low)), 2)


def span_of(charts: Sequence[Chart], marks: Sequence[Mark] = ()) -> Span | None:
    """Return the stretch of time from the first point of the charts to the last point or mark; None without points."""
    moments = [point.at for chart in charts for point in chart.points]
    if not moments:
        return None
    begins, ends = min(moments), max([*moments, *(mark.at for mark in marks)])
    return Span(begins=begins if begins < ends else ends - timedelta(minutes=1), ends=ends)


def scale_of(chart: Chart, height: int = LOW) -> Scale:
    """Return a scale that holds every value and the limit, with round grid lines."""
    values = [point.value for point in chart.points if point.value is not None]
    values += [chart.limit] if chart.limit is not None else []
    values += [0.0] if chart.zero else []
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) or abs(high) or (0.05 if chart.unit == "percent" else 1.0)
    low, high = (low if chart.zero else low - 0.12 * room), high + 0.12 * room
    step = _round_step((high - low) / max(3, height // GRID_PIXELS))
    first = math.ceil(low / step)
    ticks = tuple(float(f"{n * step:.12g}") for n in range(first, math.floor(high / step) + 1))
    return Scale(low=low, high=high, height=height, ticks=ticks)


def _round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large as the step."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def draw_chart(chart: Chart, span: Span, marks: Sequence[Mark], *, height: int = LOW) -> Markup:
    """Return a chart as HTML that fills the width of its place: the values of the grid lines, then the plot."""
    scale = scale_of(chart, height)
    inside = [mark for mark in marks if span.begins <= mark.at <= span.ends]
    plot = [
        *_grid(chart, scale),
        *_marks(inside, span, scale),
        _lines(chart.points, span, scale),
        *_points(chart, span, scale),
    ]
    return Markup(
        '<div class="picture"><svg class="ticks" aria-hidden="true" width="{}" height="{}">{}</svg>'
        '<svg class="plot" role="img" aria-label="{}" width="100%" height="{}">{}</svg></div>'
    ).format(
        GUTTER,
        TOP + height + FOOT,
        Markup("").join(_ticks(chart, scale)),
        describe(chart, inside),
        TOP + height + FOOT,
        Markup("").join(plot),
    )


def describe(chart: Chart, marks: Sequence[Mark]) -> str:
    """Return in words what a chart shows, for those who do not see it."""
    values = [point.value for point in chart.points if point.value is not None]
    if not values:
        return f"{chart.title}: not measured yet."
    text = (
        f"{chart.title} over {count(len(values), 'window')}: now {number(values[-1], chart.unit)}, "
        f"lowest {number(min(values), chart.unit)}, highest {number(max(values), chart.unit)}."
    )
    if chart.limit is not None:
        text += f" {chart.limit_name}: {number(chart.limit, chart.unit)}."
    happened = [mark.note for mark in marks if mark.kind != "retrained"]
    return f"{text} {' '.join(happened[-3:])}".strip()


def _grid(chart: Chart, scale: Scale) -> Iterator[Markup]:
    line = Markup('<line class="{}" x1="0" x2="100%" y1="{}" y2="{}"/>')
    for tick in scale.ticks:
        yield line.format("grid", scale.pixel(tick), scale.pixel(tick))
    if chart.limit is not None:
        y = scale.pixel(chart.limit)
        yield line.format("limit", y, y)
        words = f"{chart.limit_name} {number(chart.limit, chart.unit)}"
        yield Markup('<text class="limit-name" x="100%" y="{}">{}</text>').format(y - 4, words)


def _ticks(chart: Chart, scale: Scale) -> Iterator[Markup]:
    for tick in scale.ticks:
        words = _tick(tick, chart, scale)
        yield Markup('<text x="{}" y="{}">{}</text>').format(GUTTER - 8, scale.pixel(tick) + 4, words)


def _tick(value: float, chart: Chart, scale: Scale) -> str:
    """Return a grid value with no more digits than tell it from its neighbours."""
    factor, unit = {"percent": (100.0, " %"), "ms": (1.0, " ms")}.get(chart.unit, (1.0, ""))
    step = (scale.ticks[1] - scale.ticks[0]) * factor if len(scale.ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value * factor:,.{digits}f}{unit}"


def _lines(points: Sequence[Point], span: Span, scale: Scale) -> Markup:
    """Draw the line and the soft area under it; a window without a value leaves a gap."""
    path, area, pen_down, last = [], [], False, 0.0
    floor = TOP + scale.height
    for point in points:
        if point.value is None:
            area += [f"L{last},{floor}Z"] if pen_down else []
            pen_down = False
            continue
        last, y = span.percent(point.at), scale.pixel(point.value)
        path.append(f"{'L' if pen_down else 'M'}{last},{y}")
        area.append(f"L{last},{y}" if pen_down else f"M{last},{floor}L{last},{y}")
        pen_down = True
    area += [f"L{last},{floor}Z"] if pen_down else []
    return Markup(
        '<svg width="100%" height="{0}" viewBox="0 0 100 {0}" preserveAspectRatio="none" overflow="visible">'
        '<path class="area" d="{1}"/><path class="line" vector-effect="non-scaling-stroke" d="{2}"/></svg>'
    ).format(floor, "".join(area), "".join(path))


def _points(chart: Chart, span: Span, scale: Scale) -> Iterator[Markup]:
    """Give each window a place to point at, which shows its dot and its words; the newest dot is always shown."""
    measured = [(span.percent(point.at), point) for point in chart.points if point.value is not None]
    for index, (x, point) in enumerate(measured):
        left = (measured[index - 1][0] + x) / 2 if index else 0.0
        right = (measured[index + 1][0] + x) / 2 if index + 1 < len(measured) else 100.0
        yield Markup(
            '<g class="point"><rect x="{}%" width="{}%" y="0" height="100%"/>'
            '<circle cx="{}%" cy="{}" r="3.5"/><text x="100%" y="12">{}</text></g>'
        ).format(round(left, 2), round(right - left, 2), x, scale.pixel(point.value or 0.0), point.note)


def _marks(marks: Sequence[Mark], span: Span, scale: Scale) -> Iterator[Markup]:
    """Draw what the loop did: beginnings above, decisions below, with labels where there is room."""
    gap = LABEL_GAP / scale.height  # tall charts are wide, low ones stand beside each other
    labelled, bottom = -gap, TOP + scale.height
    for mark in marks:
        x, begins = span.percent(mark.at), mark.kind == "retrained"
        roomy = not begins and x - labelled >= gap
        labelled = x if roomy else labelled
        words = f"{GLYPHS[mark.kind]} {mark.label}".strip() if roomy else GLYPHS[mark.kind]
        yield Markup(
            '<g class="mark {}"><title>{}</title><line x1="{}%" x2="{}%" y1="{}" y2="{}"/>'
            '<text x="{}%" y="{}">{}</text></g>'
        ).format(
            mark.kind.replace(" ", "-"), mark.note, x, x, TOP, bottom, x, TOP - 4 if begins else bottom + 13, words
        )


def draw_reigns(reigns: Sequence[Reign], span: Span) -> Markup:
    """Return a strip that says which version was champion when."""
    parts = []
    for number_, reign in enumerate(reigns):
        left, right = span.percent(reign.begins), span.percent(reign.ends or span.ends)
        if right <= left:
            continue
        name = f"v{reign.seq}" if right - left >= REIGN_GAP else ""
        parts.append(
            Markup(
                '<g class="reign {}"><title>{}</title><rect x="{}%" width="{}%" height="22"/>'
                '<text x="{}%" y="15">{}</text></g>'
            ).format(
                "odd" if number_ % 2 else "even",
                f"Version {reign.seq} was champion.",
                left,
                round(right - left, 2),
                round((left + right) / 2, 2),
                name,
            )
        )
    words = "Champions in this time: " + ", ".join(f"version {reign.seq}" for reign in reigns) + "."
    return Markup('<svg class="reigns" role="img" aria-label="{}" width="100%" height="22">{}</svg>').format(
        words, Markup("").join(parts)
    )
