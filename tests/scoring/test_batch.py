"""Files of any form and size are scored once, whole, in order; kills, damage and slips do no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.scoring.conftest import numbers, texts

from tidewheel.app import lineage_of
from tidewheel.data.datasets import append, register
from tidewheel.errors import AlreadyRunning, Conflict, InvalidInput, NotFound, TidewheelError
from tidewheel.lineage.read import get_execution, list_executions, list_used
from tidewheel.lineage.store import Store
from tidewheel.predictions.log import read_log
from tidewheel.predictions.records import row_id
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.versions import get_model
from tidewheel.scoring.batch import Progress, Wishes, score_files
from tidewheel.scoring.loaded import load_model

ROOT = Path(__file__).parents[2]


def write(frame: pl.DataFrame, path: Path) -> None:
    {
        ".parquet": lambda: frame.write_parquet(path),
        ".csv": lambda: frame.write_csv(path),
        ".tsv": lambda: frame.write_csv(path, separator="\t"),
        ".ndjson": lambda: frame.write_ndjson(path),
        ".arrow": lambda: frame.write_ipc(path),
    }[path.suffix]()


def read(path: Path) -> pl.DataFrame:
    if path.suffix in (".csv", ".tsv"):
        return pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    if path.suffix == ".ndjson":
        return pl.read_ndjson(path)
    return pl.read_ipc(path) if path.suffix == ".arrow" else pl.read_parquet(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".ndjson", ".arrow"])
@pytest.mark.parametrize("name", ["colors", "trees"])
def test_every_form_is_scored_as_in_memory(yard: Store, tmp_path: Path, suffix: str, name: str) -> None:
    rows = texts(1_000)
    write(rows, tmp_path / f"in{suffix}")
    model = load_model(yard, name)
    wishes = Wishes(keep=("id",), part_rows=300)
    done = score_files(yard, model, str(tmp_path / f"in{suffix}"), str(tmp_path / f"out{suffix}"), wishes=wishes)
    scored = read(tmp_path / f"out{suffix}")
    labels = model.signature.classes or []
    probabilities = [f"probability_{label}" for label in labels]
    assert scored.columns == ["id", "prediction", *probabilities, "model_version", "run_id"]
    assert scored["id"].equals(rows["id"])
    assert scored["prediction"].to_list() == model.predict(rows).to_list()
    assert scored[probabilities[1]].to_list() == pytest.approx(model.predict_proba(rows)[str(labels[1])].to_list())
    assert set(scored["model_version"]) == {f"{name}:1"}
    assert set(scored["run_id"]) == {done.run_id}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", f"in{suffix}", f"out{suffix}"]


def test_several_files_and_processes_keep_the_order(yard: Store, tmp_path: Path) -> None:
    for number in range(3):
        numbers(500, seed=number).with_columns(file=pl.lit(number)).write_parquet(tmp_path / f"in-{number}.parquet")
    pl.DataFrame(schema=numbers().with_columns(file=1).schema).write_parquet(tmp_path / "in-9.parquet")
    seen: list[Progress] = []
    wishes = Wishes(keep=("file", "id"), jobs=2, part_rows=64)
    out = tmp_path / "out.parquet"
    score_files(
        yard, load_model(yard, "line"), str(tmp_path / "in-*.parquet"), str(out), wishes=wishes, tell=seen.append
    )
    rows = pl.concat([numbers(500, seed=number) for number in range(3)])
    scored = pl.read_parquet(out)
    assert scored["file"].to_list() == [number for number in range(3) for _ in range(500)]
    assert scored["id"].equals(rows["id"])
    assert scored["prediction"].to_list() == load_model(yard, "line").predict(rows).to_list()
    assert [seen[0].rows, seen[-1].rows, seen[-1].total] == [0, 1_500, 1_500]


def test_a_dataset_and_the_version_are_told_in_the_graph(yard: Store, tmp_path: Path) -> None:
    register(yard, "rides", numbers(200))
    append(yard, "rides", numbers(100, seed=8))
    out = tmp_path / "out.parquet"
    done = score_files(yard, load_model(yard, "trees@champion"), "rides", str(out), wishes=Wishes(keep=("id",)))
    assert pl.read_parquet(out).height == 300
    with yard.database.reading() as tx:
        used = list_used(tx, done.run_id)
        assert get_execution(tx, done.run_id).state == "SUCCEEDED"
    assert used["model"] == get_model(yard, "trees:1").version_id
    labels = {node.label for node in lineage_of(yard, "rides").nodes}
    assert {"rides:2", "trees", "file/out.parquet:1"} <= labels
    (tmp_path / "rides.csv").write_text(numbers(5).write_csv())
    score_files(yard, load_model(yard, "trees"), str(tmp_path / "rides.csv"), str(tmp_path / "second.csv"))
    labels = {node.label for node in lineage_of(yard, "file/second.csv", kind="artifact").nodes}
    assert {"file/second.csv:1", "file/rides.csv:1", "trees:1"} <= labels


def test_the_log_names_every_row_as_the_output_does(yard: Store, tmp_path: Path) -> None:
    rows = texts(2_500)
    rows.write_parquet(tmp_path / "in.parquet")
    wishes = Wishes(keep=("id",), log=True, part_rows=1_300)
    score_files(
        yard, load_model(yard, "colors"), str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), wishes=wishes
    )
    records = read_log(log_folder(yard.home, "colors"), None).records
    logged = {
        row_id(record.id, place, len(record.output)): (output, tuple(features))
        for record in records
        for place, (output, features) in enumerate(zip(record.output, record.features, strict=True))
    }
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert len(logged) == 2_500
    assert [logged[each][0] for each in scored["request_id"]] == scored["prediction"].to_list()
    assert [logged[each][1] for each in scored["request_id"]] == rows.select("a", "b", "n", "color").rows()
    assert {(record.version, record.route) for record in records} == {(1, "pinned")}


def test_s3_is_read_and_written(yard: Store, tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tide")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tide")
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir("tide-rows")
    numbers(70).write_parquet(tmp_path / "in.parquet")
    for number in range(2):
        files.put_file(str(tmp_path / "in.parquet"), f"tide-rows/in-{number}.parquet")
    wishes = Wishes(keep=("id",))
    model = load_model(yard, "trees")
    score_files(yard, model, "s3://tide-rows/in-*.parquet", "s3://tide-rows/out.parquet", wishes=wishes)
    files.get_file("tide-rows/out.parquet", str(tmp_path / "out.parquet"))
    assert pl.read_parquet(tmp_path / "out.parquet")["id"].to_list() == numbers(70)["id"].to_list() * 2
    with pytest.raises(Conflict, match="exists already"):
        score_files(yard, model, "s3://tide-rows/in-0.parquet", "s3://tide-rows/out.parquet")
    with pytest.raises(NotFound, match="gone"):
        score_files(yard, model, "s3://tide-rows/gone.parquet", str(tmp_path / "second.parquet"))


SLIPS: list[tuple[str, dict[str, Any], type[TidewheelError], str]] = [
    ("good.parquet", {"out": "good.parquet"}, Conflict, "is the input and the output"),
    ("good.parquet", {"out": "there.parquet"}, Conflict, "exists already"),
    ("*.parquet", {"out": "there.parquet", "overwrite": True}, Conflict, "is among the inputs"),
    ("good.parquet", {"out": "out.xlsx"}, InvalidInput, "ends in .xlsx"),
    ("good.parquet", {"out": "nowhere/out.parquet"}, NotFound, "no folder named"),
    ("good.parquet", {"keep": ("idd",)}, NotFound, "Did you mean 'id'"),
    ("there.parquet", {"keep": ("prediction",)}, InvalidInput, "of its own"),
    ("good.parquet", {"on": "moon"}, NotFound, "place to score on"),
    ("good.parquet", {"jobs": 0}, InvalidInput, "0 processes"),
    ("god.parquet", {}, NotFound, "Did you mean 'good.parquet'"),
    ("rides", {}, NotFound, "And there is no file rides"),
    ("broken.parquet", {}, InvalidInput, "broken.parquet cannot be read"),
    ("torn.parquet", {}, InvalidInput, "torn.parquet cannot be read"),
    ("empty.csv", {}, InvalidInput, "is empty"),
    ("header.csv", {}, InvalidInput, "holds no rows"),
    ("narrow.parquet", {}, NotFound, "no column named 'n'"),
    ("wrong.parquet", {}, InvalidInput, "'a' is float for this model"),
    ("words.csv", {}, InvalidInput, "words.csv cannot be read"),
]


@pytest.mark.parametrize("slip", SLIPS, ids=[f"{slip[0]}-{slip[3]}" for slip in SLIPS])
def test_slips_are_told_and_leave_nothing(
    yard: Store,
    tmp_path: Path,
    slip: tuple[str, dict[str, Any], type[TidewheelError], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, wish, kind, said = slip
    monkeypatch.chdir(tmp_path)
    good = numbers(100)
    good.write_parquet("good.parquet")
    good.with_columns(prediction=1).write_parquet("there.parquet")
    if not given.startswith("*"):
        good.drop("n").write_parquet("narrow.parquet")
        good.with_columns(pl.lit("x").alias("a")).write_parquet("wrong.parquet")
        Path("broken.parquet").write_bytes(b"PAR1 and no more")
        data = bytearray(Path("good.parquet").read_bytes())
        data[4:400] = os.urandom(396)
        Path("torn.parquet").write_bytes(data)
        Path("empty.csv").touch()
        Path("header.csv").write_text("a,b,n\n")
        Path("words.csv").write_text("a,b,n\n1,2,3\nx,2,3\n")
    before = sorted(Path().rglob("*.parquet"))
    wish = {"out": "out.parquet", **wish}
    out = wish.pop("out")
    with pytest.raises(kind, match=said):
        score_files(yard, load_model(yard, "trees"), given, out, wishes=Wishes(**wish))
    assert sorted(Path().rglob("*.parquet")) == before


def test_a_failure_is_recorded_and_gone_on_with(yard: Store, tmp_path: Path) -> None:
    numbers(100).write_csv(tmp_path / "in.csv")
    model, wishes = load_model(yard, "trees"), Wishes(part_rows=20)

    def stop(progress: Progress) -> None:
        if progress.rows >= 40:
            raise KeyboardInterrupt

    numbers(100).write_csv(tmp_path / "in.csv")
    with pytest.raises(KeyboardInterrupt):
        score_files(yard, model, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), wishes=wishes, tell=stop)
    with yard.database.reading() as tx:
        (failed,) = list_executions(tx, "scoring")
    assert (failed.state, failed.error) == ("FAILED", "KeyboardInterrupt: ")
    done = score_files(yard, model, str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), wishes=wishes)
    assert (done.run_id, done.resumed, done.rows) == (failed.id, 40, 100)
    with yard.database.reading() as tx:
        assert [run.state for run in list_executions(tx, "scoring")] == ["SUCCEEDED"]


def test_parts_of_another_input_or_version_are_not_gone_on_with(yard: Store, tmp_path: Path) -> None:
    numbers(100).write_csv(tmp_path / "in.csv")

    def stop(progress: Progress) -> None:
        if progress.rows >= 40:
            raise KeyboardInterrupt

    model, out = load_model(yard, "trees"), tmp_path / "out.csv"
    with pytest.raises(KeyboardInterrupt):
        score_files(yard, model, str(tmp_path / "in.csv"), str(out), wishes=Wishes(part_rows=20), tell=stop)
    numbers(120, seed=9).write_csv(tmp_path / "in.csv")
    done = score_files(yard, model, str(tmp_path / "in.csv"), str(out), wishes=Wishes(part_rows=20))
    assert (done.resumed, done.rows) == (0, 120)
    assert pl.read_csv(out)["prediction"].to_list() == model.predict(numbers(120, seed=9)).to_list()


def command(yard: Store, tmp_path: Path, *more: str) -> list[str]:
    data, out = str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")
    base = [sys.executable, "-m", "tidewheel", "score", "trees", data, out, "--keep", "id", *more]
    return [*base, "--home", str(yard.home), "--json"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_scoring_goes_on_and_is_complete(yard: Store, tmp_path: Path, jobs: str) -> None:
    rows = pl.concat([numbers(200_000, seed=1)] * 20).with_row_index("key").drop("id").rename({"key": "id"})
    rows.write_parquet(tmp_path / "in.parquet")
    parts = tmp_path / ".out.parquet.scoring" / "parts"
    running = subprocess.Popen(command(yard, tmp_path, "--jobs", jobs), cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(list(parts.glob("*.parquet"))) < 4:
            assert running.poll() is None, "it was done before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(AlreadyRunning, match="Another process is writing"):
            score_files(yard, load_model(yard, "trees"), str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    assert not (tmp_path / "out.parquet").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert len(kept) >= 4
    seen: list[Progress] = []
    wishes = Wishes(keep=("id",), jobs=int(jobs))
    model = load_model(yard, "trees")
    touched: list[set[str]] = []

    def look(progress: Progress) -> None:
        seen.append(progress)
        now = {p.name: p.stat().st_mtime_ns for p in parts.glob("*.parquet")}
        touched.append({name for name in kept if now.get(name) != kept[name]})

    done = score_files(
        yard, model, str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), wishes=wishes, tell=look
    )
    assert touched
    assert not any(touched)
    assert done.resumed >= 4 * 65_536
    scored = pl.read_parquet(tmp_path / "out.parquet")
    assert scored["id"].equals(rows["id"])
    once = model.predict(rows.head(200_000))
    assert scored["prediction"].equals(pl.concat([once] * 20))
    assert not parts.parent.exists()


PEAK = """
import resource, sys
import tidewheel
from tidewheel.scoring.batch import score_files
app = tidewheel.open(sys.argv[1])
score_files(app.store, app.load("trees"), sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(yard: Store, tmp_path: Path) -> None:
    def peak(copies: int) -> int:
        data = tmp_path / f"in-{copies}.parquet"
        pl.scan_parquet([tmp_path / "one.parquet"] * copies).sink_parquet(data, row_group_size=100_000)
        out = tmp_path / f"out-{copies}.parquet"
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(yard.home), str(data), str(out)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert not done.returncode, done.stderr
        return int(done.stdout)

    numbers(400_000).write_parquet(tmp_path / "one.parquet")
    small, large = peak(1), peak(16)  # 16 MB and 250 MB of numbers
    assert large < small + 120, (small, large)
