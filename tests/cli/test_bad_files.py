"""Files that cannot be kept, given to the real command: what is wrong and where, no traceback, nothing kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROWS = "".join(f"{n},{n % 2}\n" for n in range(60))


def register(folder: Path, name: str, content: bytes, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_bytes(content)
    command = [sys.executable, "-m", "tidewheel", "data", "register", "points", name, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ["is empty"]),
        (b"a,y\n1,2\n1,2,3\n", ["Line 3 of t.csv has 3 fields; the header has 2"]),
        ("a,y\n1,caf\xe9\n".encode("cp1252"), ["t.csv is not UTF-8: byte 9", "iconv -f WINDOWS-1252"]),
        (("a,y\n" + ROWS.replace(",1", ",0")).encode(), ["one_class", "nothing to learn"]),
        (("a,y\ninf,0\n" + ROWS).encode(), ["infinite", "1 of 61", "replace them with nulls"]),
        (("a,yy\n" + ROWS).encode(), ["no column named 'y'", "Did you mean 'yy'?"]),
    ],
    ids=["empty", "ragged", "encoding", "one class", "infinite", "no such column"],
)
def test_a_file_that_cannot_be_kept_is_refused_with_the_place(tmp_path: Path, content: bytes, told: list[str]) -> None:
    done = register(tmp_path, "t.csv", content, "--label", "y")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for words in told:
        assert words in done.stderr
    sound = register(tmp_path, "t.csv", ("a,y\n" + ROWS).encode(), "--label", "y")
    assert (sound.returncode, sound.stdout[:8]) == (0, "points:1"), sound.stderr
