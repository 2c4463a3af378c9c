"""Charts are well-formed, keep inside their place, and say in words what they show."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.web.chart import LOW, TALL, TOP, Span, describe, draw_chart, draw_reigns, scale_of, span_of
from tidewheel.web.records import Chart, Mark, Point, Reign, Status

START = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = st.none() | st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False)


def line(values: list[float | None], *, limit: float | None = None, zero: bool = False) -> Chart:
    points = tuple(Point(at=START + timedelta(minutes=n), value=value, note=f"{n}") for n, value in enumerate(values))
    return Chart(id="x", title="X", unit="number", points=points, limit=limit, limit_name="limit", zero=zero)


def elements(markup: str, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(str(markup)).iter(tag))


@given(st.lists(VALUES, min_size=1, max_size=30), st.none() | st.floats(-1e6, 1e6), st.booleans())
def test_everything_stays_inside_the_picture(values: list[float | None], limit: float | None, zero: bool) -> None:
    chart = line(values, limit=limit, zero=zero)
    span = span_of([chart])
    assert span is not None
    picture = draw_chart(chart, span, ())
    for element in elements(picture, "line"):
        assert TOP - 0.01 <= float(element.get("y1", "")) <= TOP + LOW + 0.01
    for element in elements(picture, "circle"):
        assert TOP <= float(element.get("cy", "")) <= TOP + LOW
        assert 0 <= float(element.get("cx", "").removesuffix("%")) <= 100
    assert len(elements(picture, "circle")) == sum(value is not None for value in values)


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=20))
def test_grid_lines_are_few_and_round(values: list[float]) -> None:
    assert 2 <= len(scale_of(line(list(values)), TALL).ticks) <= 6
    scale = scale_of(line(list(values)))
    assert 1 <= len(scale.ticks) <= 4
    steps = [later - sooner for sooner, later in zip(scale.ticks, scale.ticks[1:], strict=False)]
    for step in steps:
        mantissa = float(f"{step:.6e}".split("e")[0])
        assert min(abs(mantissa - round_number) for round_number in (1, 2, 5, 10)) < 1e-3


def test_a_window_without_a_value_leaves_a_gap() -> None:
    chart = line([1.0, 2.0, None, 1.5, 1.0])
    span = span_of([chart])
    assert span is not None
    (drawn,) = (path for path in elements(draw_chart(chart, span, ()), "path") if path.get("class") == "line")
    assert drawn.get("d", "").count("M") == 2


def test_marks_of_the_loop_stand_at_their_moment() -> None:
    chart = line([1.0, 2.0, 3.0, 2.0, 1.0])
    span = span_of([chart])
    assert span is not None
    inside = Mark(at=START + timedelta(minutes=1), kind="promoted", label="v2", note="Version 2 was promoted.")
    outside = replace(inside, at=START - timedelta(minutes=1), note="Long ago.")
    picture = draw_chart(chart, span, (outside, inside))
    (mark,) = (group for group in elements(picture, "g") if "mark" in group.get("class", ""))
    assert mark.find("title") is not None
    assert mark.findtext("title") == "Version 2 was promoted."
    assert mark.findtext("text") == "● v2"
    assert [item.get("x1") for item in mark.iter("line")] == ["25.0%"]


def test_labels_that_would_touch_are_left_out() -> None:
    chart = line([1.0] * 100)
    span = span_of([chart])
    assert span is not None
    marks = [Mark(at=START + timedelta(minutes=50 + n), kind="promoted", label=f"v{n}", note="-") for n in range(3)]
    texts = [text.text for text in elements(draw_chart(chart, span, marks), "text")]
    assert [text for text in texts if text and text.startswith("●")] == ["● v0", "●", "●"]


def test_champions_fill_the_strip_without_overlap() -> None:
    span = Span(begins=START, ends=START + timedelta(minutes=10))
    reigns = (
        Reign(seq=1, begins=START - timedelta(days=1), ends=START + timedelta(minutes=4)),
        Reign(seq=2, begins=START + timedelta(minutes=4), ends=None),
        Reign(seq=0, begins=START - timedelta(days=2), ends=START - timedelta(days=1)),
    )
    strip = draw_reigns(reigns, span)
    boxes = [(item.get("x"), item.get("width")) for item in elements(strip, "rect")]
    assert boxes == [("0.0%", "40.0%"), ("40.0%", "60.0%")]
    assert [text.text for text in elements(strip, "text")] == ["v1", "v2"]


def test_the_description_tells_what_is_seen(busy: Status) -> None:
    state = busy.shown
    assert state is not None
    words = describe(state.charts[0], state.marks)
    assert re.match(
        r"Accuracy over 47 windows: now \d\d\.\d %, lowest \d\d\.\d %, highest \d\d\.\d %\. limit: 90", words
    )
    assert words.endswith("Version 4 was rolled back: errors.")


@pytest.mark.parametrize("values", [[None], [None, None]])
def test_a_chart_without_values_says_so(values: list[float | None]) -> None:
    chart = line(values)
    assert describe(chart, ()) == "X: not measured yet."
    span = span_of([chart])
    assert span is not None
    assert elements(draw_chart(chart, span, ()), "circle") == []


def test_a_decision_after_the_last_window_is_still_seen() -> None:
    chart = line([1.0, 2.0])
    late = Mark(at=START + timedelta(minutes=4), kind="promoted", label="v2", note="Late.")
    span = span_of([chart], [replace(late, at=START - timedelta(days=1)), late])
    assert span == Span(begins=START, ends=late.at)


def test_no_points_no_span() -> None:
    assert span_of([]) is None
    assert span_of([line([])]) is None
