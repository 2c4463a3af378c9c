"""In a real kernel a run shows itself while it goes on and when it is done; every text is escaped."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

import tidewheel
from tidewheel.errors import StepFailed
from tidewheel.pipelines.notebook import notebook_watcher
from tidewheel.pipelines.records import silent

EVIL = "<script>alert(1)</script>"
CELLS = [
    """
from tidewheel import pipeline, step
import tidewheel

@step
def double(x: int) -> int:
    return 2 * x

@pipeline
def doubled(n: int = 3) -> list[int]:
    return double.map(range(n))
""",
    "app = tidewheel.open('home')\nrun = app.run(doubled)",
    "run",
    "app.plan(doubled, n=4)",
    "app.why(run.id)",
    "app.sweep(doubled, grid={'n': [1, 2]})",
    "print(app.run(doubled, n=60).state)",
]


class Texts(HTMLParser):
    """Collects tags and texts of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def parsed(html: str) -> Texts:
    texts = Texts()
    texts.feed(html)
    return texts


def shown(cell: Any) -> list[str]:
    """Return the HTML that a cell shows in the end."""
    return [output["data"]["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]


@pytest.mark.slow
def test_a_kernel_shows_a_run_live_and_in_full(tmp_path: Path) -> None:
    form: Any = nbformat.v4
    book = form.new_notebook(cells=[form.new_code_cell(text) for text in CELLS])
    client = nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    live, run, plan, why, sweep, many = (book.cells[at] for at in range(1, 7))
    (table,) = shown(live)  # one display, renewed in place
    assert "doubled" in parsed(table).text
    assert parsed(table).text.count("committed") == 3
    assert "succeeded" in table
    assert "[0, 2, 4]" in shown(run)[0]
    assert parsed(shown(run)[0]).text.count("committed") == 3
    assert "cached" in shown(plan)[0]
    assert "never executed" in shown(why)[0]
    assert parsed(shown(sweep)[0]).text.count("succeeded") == 3
    assert "57 committed, 3 cached" in shown(many)[0]


def test_without_a_notebook_nothing_is_shown() -> None:
    assert notebook_watcher() is silent


def test_texts_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(
        "from tidewheel import pipeline, step\n"
        f"@step\ndef bad(x: str) -> str:\n    raise ValueError('{EVIL}')\n"
        "@step\ndef good(x: str) -> str:\n    return x\n"
        "@pipeline\ndef evil(x: str, fail: bool):\n    return bad(x) if fail else good(x)\n"
    )
    app = tidewheel.open(tmp_path / "home")
    target = f"{tmp_path / 'evil.py'}:evil"
    run = app.run(target, x=EVIL, fail=False)
    with pytest.raises(StepFailed) as failed:
        app.run(target, x=EVIL, fail=True)
    broken = app.why(failed.value.run_id)
    for html in (run._repr_html_(), broken._repr_html_(), app.plan(target, x=EVIL, fail=False)._repr_html_()):
        assert "script" not in parsed(html).tags
    assert EVIL in parsed(run._repr_html_()).text
    app.close()
