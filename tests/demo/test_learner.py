"""The demo's learner: the mean of what is not clearly worse, on any table, in a form that ONNX holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.demo.learner import learn, sorted_columns
from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import save_bundle


def shop(rows: int, seed: int = 0) -> pl.DataFrame:
    """Draw customers whose answer depends on a number, a text and a boolean; some numbers are missing."""
    rng = np.random.default_rng(seed)
    city, x, member = rng.choice(["oslo", "rome", "lima"], rows), rng.normal(size=rows), rng.integers(0, 2, rows)
    answer = np.where(x + (city == "rome") + 0.5 * member > 0.5, "yes", "no")
    age = [None if n % 13 == 0 else float(value) for n, value in enumerate(rng.normal(40, 9, rows))]
    return pl.DataFrame({"x": x, "city": city, "member": member, "age": age, "always": 7, "answer": answer})


def members(model: Any) -> list[str]:
    """Return the names of the learners whose mean a model is."""
    last = model.estimator.steps[-1][1]
    return [name for name, _ in getattr(last, "estimators", [("alone", last)])]


def test_text_booleans_constants_and_missing_numbers_are_learned_from() -> None:
    model = learn(shop(600), "answer", "binary")
    later = shop(300, seed=1)
    assert np.mean(model.predict(later) == later["answer"].to_numpy()) > 0.93
    assert model.signature.names == ["x", "member", "age", "always", "city"]


def test_numbers_may_be_missing_and_texts_new_when_it_serves() -> None:
    model = learn(shop(600), "answer", "binary")
    assert {field.name for field in model.signature.fields if field.nullable} == {"x", "member", "age", "always"}
    row = {"x": [None], "city": ["atlantis"], "member": [1], "age": [None], "always": [7]}
    frame = pl.DataFrame(row, schema_overrides={"x": pl.Float64, "age": pl.Float64})
    assert model.predict(frame)[0] in ("yes", "no")


def test_a_learner_that_is_clearly_worse_has_no_say() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, 900)
    rows = pl.DataFrame({"x": x, "y": np.sin(3 * x) + rng.normal(0, 0.05, 900)})
    assert "linear" not in members(learn(rows, "y", "regression"))
    straight = pl.DataFrame({"x": x, "z": rng.normal(size=900)}).with_columns(y=2 * pl.col("x") - pl.col("z"))
    assert members(learn(straight, "y", "regression")) == ["alone"]


def test_newer_rows_weigh_more() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4_000)
    turned = np.where(np.arange(4_000) < 2_000, x > 0, x < 0).astype(int)
    model = learn(pl.DataFrame({"x": x, "y": turned}), "y", "binary")
    assert model.predict(pl.DataFrame({"x": [2.0, -2.0]})).tolist() == [0, 1]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_mean_is_kept_as_onnx(store: Store, task: Any) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame(rng.normal(size=(400, 5)), schema=[f"c{n}" for n in range(5)])
    total = table.sum_horizontal()
    labels = {"binary": total > 0, "multiclass": (total.clip(-2, 2)).round(0).cast(pl.Int64), "regression": total**2}
    rows = table.with_columns(y=labels[task].cast(pl.Int64) if task == "binary" else labels[task])
    bundle = save_bundle(store, learn(rows, "y", task), rows=rows)
    assert bundle.manifest.formats[0].name == "onnx"
    bundle.verify()


def test_labels_of_one_class_and_moments_are_refused() -> None:
    rows = shop(50)
    with pytest.raises(InvalidInput, match="same answer"):
        learn(rows.with_columns(answer=pl.lit("yes")), "answer", "binary")
    with pytest.raises(InvalidInput, match="--drop"):
        sorted_columns(pl.DataFrame({"at": pl.Series(["2026-01-01"]).str.to_date()}))
