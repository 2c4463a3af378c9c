"""Names of log folders and segments."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.predictions.segments import Segment, list_segments, log_folder


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_every_model_name_is_one_folder_inside_the_log(name: str) -> None:
    folder = log_folder(Path("home"), name)
    assert folder.parent == Path("home/log")
    assert folder.name not in ("", ".", "..")


@pytest.mark.parametrize(("one", "two"), [(".", ".."), ("a/b", "a%2Fb"), ("a", "A"), (".a", "%2Ea")])
def test_two_models_never_share_a_folder(one: str, two: str) -> None:
    assert log_folder(Path("h"), one) != log_folder(Path("h"), two)


def test_segments_are_listed_in_the_order_they_were_begun(tmp_path: Path) -> None:
    kept = [Segment(number=n, writer=w, kind="predictions") for n, w in ((2, "b"), (10, "a"), (2, "a"))]
    for segment in kept:
        (tmp_path / segment.file_name).touch()
    for name in ("predictions-x-a.seg", "outcomes-00000001-a.seg", "readme", "predictions-00000001-a.seg.tmp"):
        (tmp_path / name).touch()
    assert list_segments(tmp_path, "predictions") == sorted(kept)
    assert [segment.number for segment in sorted(kept)] == [2, 2, 10]


def test_a_folder_that_is_not_there_has_no_segments(tmp_path: Path) -> None:
    assert list_segments(tmp_path / "none", "predictions") == []
