"""The docs name everything that a user can name, nothing that does not exist, and their Python runs."""

from __future__ import annotations

import doctest
import linecache
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"^# (\w+\.py)\n")


def test_the_reference_is_what_the_source_says() -> None:
    """Commands, settings, errors and public names are written from the source; this holds the page to it."""
    command = [sys.executable, str(ROOT / "scripts" / "write_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "docs/reference.md is up to date", done.stdout + done.stderr


def test_every_link_leads_somewhere(tmp_path: Path) -> None:
    build = runpy.run_path(str(ROOT / "scripts" / "build_docs.py"))["build"]
    assert build(ROOT, tmp_path / "site") == []
    assert (tmp_path / "site" / "docs" / "index.html").read_text().startswith("<!doctype html>")


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(
        "# A\n[gone](b.md) [no heading](#nowhere) [good](#a) [out](https://example.org)"
    )
    build = runpy.run_path(str(ROOT / "scripts" / "build_docs.py"))["build"]
    assert build(tmp_path, tmp_path / "site") == [
        "docs/a.md: broken link: b.md",
        "docs/a.md: broken link: #nowhere",
    ]


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_the_python_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page share one namespace; a block that begins with `# name.py` is a file of the reader's project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, object] = {"__name__": "__page__"}
    for number, block in enumerate(BLOCK.findall(page.read_text("utf-8"))):
        title = FILE_NAME.match(block)
        if ">>> " in block:
            _run_doctest(block, names, page)
        elif title:
            (tmp_path / title.group(1)).write_text(block)
            names |= runpy.run_path(title.group(1))
        else:
            source = f"<{page.name} block {number}>"
            linecache.cache[source] = (len(block), None, block.splitlines(keepends=True), source)
            exec(compile(block, source, "exec"), names)


def _run_doctest(block: str, names: dict[str, object], page: Path) -> None:
    test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, clear_globs=False)
    assert runner.failures == 0


def test_every_test_that_a_page_names_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text())}
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []
