"""The page shows a strategy with the share of each version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.web.outline import outline

from tidewheel.web.pages import page_app
from tidewheel.web.records import ShareLine, Status
from tidewheel.web.wording import headline

Fetch = Callable[..., tuple[int, dict[str, str], str]]


def test_the_page_shows_who_answers_by_which_strategy(busy: Status, fetch: Fetch) -> None:
    assert busy.shown is not None
    assert busy.shown.traffic is not None
    parts = (ShareLine(version=3, part="champion", share=0.7), ShareLine(version=5, part="arm", share=0.3))
    traffic = replace(busy.shown.traffic, challenger=None, share=0.0, strategy="split", parts=parts)
    shown = replace(busy.shown, traffic=traffic, rollout=None)
    status, _, text = fetch(page_app(lambda model: replace(busy, shown=shown)), "/")
    assert status == 200
    assert headline(shown) == "2 versions answer by the strategy split."
    figure = text[text.index('<figure class="traffic">') :].split("</figure>")[0]
    for words in ("<strong>split</strong>", "champion <strong>v3</strong> 70", "arm <strong>v5</strong> 30"):
        assert words in figure
    assert outline(text).mistakes == []
