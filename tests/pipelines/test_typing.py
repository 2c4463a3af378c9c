"""mypy sees the step's own types through `@step` and `@pipeline`: what a call takes, gives, and may be used for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("typed_sample.txt")  # no .py: its errors are wanted
EXPECTED = re.compile(r"# (reveals|error): (.*)$")
SAID = re.compile(r"typed_sample\.py:(\d+): (note: Revealed type is \"(.*)\"|error: .*\[(.*)\])$")


@pytest.mark.slow
def test_mypy_reads_steps_and_pipelines_as_the_functions_they_are(tmp_path: Path) -> None:
    from mypy import api

    source = SAMPLE.read_text()
    copy = tmp_path / "typed_sample.py"
    copy.write_text(source)
    out, err, _ = api.run(["--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(copy)])
    assert err == ""
    said: dict[int, set[str]] = {}
    for line in out.splitlines():
        match = SAID.search(line)
        if match is not None:
            found = plain(match[3]).split(", ") if match[3] else [match[4]]
            said.setdefault(int(match[1]), set()).update(found)
    expected = {
        number: set(match[2].split(", "))
        for number, line in enumerate(source.splitlines(), start=1)
        if (match := EXPECTED.search(line)) is not None
    }
    assert said == expected, out


def plain(revealed: str) -> str:
    """Return a revealed type as one writes it."""
    return revealed.replace("builtins.", "").rstrip("?")
