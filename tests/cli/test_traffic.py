"""`tidewheel models traffic` and `learn` on a real store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import tidewheel
from tidewheel.cli.main import cli
from tidewheel.errors import TidewheelError
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.registry.promotion import promote
from tidewheel.registry.versions import register_model

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A home with three versions of bikes, the first one promoted; runs a command there."""
    from sklearn.linear_model import LinearRegression

    app = tidewheel.open(tmp_path / "home")
    rows = pl.DataFrame({"temp": [1.0, 2.0, 3.0, 4.0], "wind": [0.0, 1.0, 0.0, 1.0]})
    for slope in (1.0, 2.0, 3.0):
        model = Model(LinearRegression().fit(rows, slope * rows["temp"].to_numpy()), example=rows)
        register_model(app.store, "bikes", save_bundle(app.store, model, rows=rows))
    promote(app.store, "bikes", 1, by="test", reason="first")
    app.close()

    def said(*words: str) -> str:
        done = CliRunner().invoke(cli, ["models", *words, "--home", str(tmp_path / "home")])
        if done.exception is not None:
            raise done.exception
        return done.output

    return said


def test_a_strategy_is_set_shown_and_taken_back(run: Run, tmp_path: Path) -> None:
    assert json.loads(run("traffic", "bikes", "--json"))["kind"] == "champion"
    words = ("--strategy", "split", "--arm", "1=0.5", "--arm", "2=0.3", "--arm", "3=0.2", "--set", "experiment=looks")
    shown = run("traffic", "bikes", *words, "--reason", "which is best", "--by", "ann")
    assert "bikes: split since row 2, by ann: which is best" in shown
    arms = json.loads(run("traffic", "bikes", "--json"))["arms"]
    assert [(each["version"], each["share"]) for each in arms] == [(1, 0.5), (2, 0.3), (3, 0.2)]
    file = tmp_path / "layer.json"
    experiment = {"name": "looks", "start": 0.0, "end": 0.4, "weights": {"1": 0.5, "2": 0.5}}
    file.write_text(json.dumps({"kind": "experiments", "layer": "web", "experiments": [experiment]}))
    assert "experiments since row 3" in run("traffic", "bikes", "--file", str(file))
    assert "Version 1 of bikes answers again" in run("rollback", "bikes")
    assert json.loads(run("traffic", "bikes", "--json"))["kind"] == "split"


def test_a_bandit_that_has_seen_nothing_stays_as_it_is(run: Run) -> None:
    run("traffic", "bikes", "--strategy", "linear", "--arm", "1", "--arm", "2", "--set", "features=temp,wind")
    assert json.loads(run("learn", "bikes", "--json")) == {
        "policy": 0,
        "rows": 0,
        "left_out": 0,
        "shares": {"1": 0.5, "2": 0.5},
    }
    assert "Policy 0 of bikes: 0 rewards counted" in run("learn", "bikes")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("traffic", "bikes", "--strategy", "spilt"), "Did you mean 'split'"),
        (("traffic", "bikes", "--arm", "2"), "not said which strategy"),
        (("traffic", "bikes", "--strategy", "split", "--arm", "two"), "VERSION=NUMBER"),
        (("traffic", "bikes", "--strategy", "split", "--set", "floor"), "name=value"),
        (("learn", "bikes"), "learns nothing"),
    ],
)
def test_wrong_words_are_answered_with_right_ones(run: Run, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(TidewheelError, match=said):
        run(*words)
