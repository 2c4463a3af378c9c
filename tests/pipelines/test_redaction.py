"""Secrets are covered in every form and however a text is cut; everything else comes through unchanged."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.pipelines.logs import StepLog, redirected
from tidewheel.pipelines.redaction import COVER, Redactor
from tidewheel.pipelines.secrets import Secrets

KEY = "-----BEGIN KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0B\n-----END KEY-----\n"


@pytest.mark.parametrize(
    "shown",
    [
        KEY,
        "a line: MIIEvQIBADAN",
        repr(KEY),
        json.dumps({"key": KEY}),
        quote(KEY),
        quote_plus(KEY),
        base64.b64encode(KEY.encode()).decode(),
    ],
)
def test_a_secret_of_several_lines_is_covered_in_every_form(shown: str) -> None:
    cleaned = Redactor([KEY]).clean(shown)
    assert "MIIE" not in cleaned
    assert "***" in cleaned


@given(
    secrets=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    text=st.text("abc", max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_cutting_a_text_changes_nothing(secrets: list[str], text: str, cuts: list[int]) -> None:
    redactor = Redactor(secrets)
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[start:end].encode() for start, end in pairwise(places)]
    shown = b"".join([*map(redactor.feed, pieces), redactor.rest()])
    assert shown == Redactor(secrets).clean(text).encode()
    remains = [part for part in shown.split(COVER) if part]
    assert not any(secret.encode() in part for secret in secrets for part in remains)


@given(text=st.text(max_size=200), secret=st.text(min_size=6, max_size=20))
def test_a_text_without_the_secret_comes_through(text: str, secret: str) -> None:
    redactor = Redactor([secret])
    if not redactor.finds(text.encode()):
        assert redactor.clean(text) == text
        assert redactor.feed(text.encode()) + redactor.rest() == text.encode()


def test_nothing_is_held_back_without_a_reason() -> None:
    redactor = Redactor(["hunter2"])
    assert redactor.feed(b"a line\n") == b"a line\n"
    assert redactor.feed(b"hun") == b""
    assert redactor.feed(b"gry\n") == b"hungry\n"


def test_a_log_covers_what_comes_letter_by_letter(tmp_path: Path) -> None:
    with StepLog(tmp_path / "a.log", Secrets({"A": "hunter2"})) as log:
        for letter in "say hunter2, hunter2hunter2 and hunt":
            log.write(letter)
    assert (tmp_path / "a.log").read_text() == "say ***, *** and hunt"


def test_output_of_a_process_is_covered_at_the_level_of_descriptors(tmp_path: Path) -> None:
    import os
    import subprocess

    with redirected(tmp_path / "x" / "a.log", Secrets({"A": "hunter2"})):
        os.write(1, b"one hun")
        os.write(1, b"ter2\n")
        subprocess.run(["sh", "-c", "echo two hunter2 >&2"], check=True)
    assert (tmp_path / "x" / "a.log").read_text() == "one ***\ntwo ***\n"
    with redirected(tmp_path / "x" / "b.log"):
        os.write(1, b"three\n")
    assert (tmp_path / "x" / "b.log").read_text() == "three\n"
