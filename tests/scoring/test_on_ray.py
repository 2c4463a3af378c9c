"""Files and Ray Datasets scored on a real cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.scoring.conftest import numbers

from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.scoring.batch import Wishes, score_files
from tidewheel.scoring.loaded import load_model
from tidewheel.scoring.ray_data import ScoreBatches

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    made: Any = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False},
    )
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_file_is_scored_on_the_cluster(yard: Store, tmp_path: Path, cluster: Any) -> None:
    rows = numbers(5_000)
    rows.write_parquet(tmp_path / "in.parquet")
    wishes = Wishes(keep=("id",), on="ray", ray_address=cluster.address, part_rows=100)
    model = load_model(yard, "trees")
    score_files(yard, model, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), wishes=wishes)
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert scored["id"].equals(rows["id"])
    assert scored["prediction"].equals(model.predict(rows))


def test_the_log_is_not_kept_on_the_cluster(yard: Store, tmp_path: Path) -> None:
    numbers(5).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(InvalidInput, match="--log"):
        score_files(
            yard,
            load_model(yard, "trees"),
            str(tmp_path / "in.parquet"),
            str(tmp_path / "out.parquet"),
            wishes=Wishes(on="ray", log=True),
        )


def test_a_batch_gets_its_answers_behind_its_columns(yard: Store) -> None:
    model, rows = load_model(yard, "colors"), numbers(9).with_columns(color=pl.lit("red"))
    scored = pl.DataFrame(ScoreBatches(model.portable)(rows.to_arrow()))
    assert scored.columns[: rows.width] == rows.columns
    assert scored["prediction"].to_list() == model.predict(rows).to_list()
    assert set(scored["model_version"]) == {"colors:1"}
