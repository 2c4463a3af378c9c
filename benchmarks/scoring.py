"""Rows per second of `tidewheel score` beside the bare ONNX Runtime loop over the same Parquet file.

Run as `python -m benchmarks.scoring [--rows 10000000]`; the default of 1,000,000 rows x 20 columns takes half a minute.
Both score with one thread; the bare loop writes nothing, `tidewheel score` writes keys, predictions and probabilities.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

COLUMNS, TREES, PIECE = 20, 100, 65_536


def write_rows(path: Path, rows: int) -> None:
    """Write random rows, a million at a time."""
    random = np.random.default_rng(0)
    pieces = path.with_suffix("")
    pieces.mkdir()
    for start in range(0, rows, 1_000_000):
        size = min(1_000_000, rows - start)
        columns = {f"f{column}": random.normal(size=size) for column in range(COLUMNS)}
        pl.DataFrame({"id": np.arange(start, start + size), **columns}).write_parquet(pieces / f"{start:012d}.parquet")
    pl.scan_parquet(sorted(pieces.iterdir())).sink_parquet(path, row_group_size=262_144)


def bare(session: object, path: Path) -> float:
    """Return the seconds of the shortest loop that answers every row."""
    import pyarrow.parquet as pq

    names = [f"f{column}" for column in range(COLUMNS)]
    began = time.perf_counter()
    for batch in pq.ParquetFile(path).iter_batches(PIECE, columns=names):
        matrix = np.stack([column.to_numpy().astype(np.float32) for column in batch.columns], axis=1)
        session.run(None, {"rows": np.ascontiguousarray(matrix)})  # type: ignore[attr-defined]
    return time.perf_counter() - began


def main() -> None:
    """Measure and print one line per way."""
    import onnxruntime
    from sklearn.ensemble import HistGradientBoostingClassifier

    import tidewheel
    from tidewheel.models.bundle import save_bundle
    from tidewheel.models.model import Model
    from tidewheel.registry.versions import register_model
    from tidewheel.scoring.batch import Wishes, score_files

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        app = tidewheel.open(place / "home")
        random = np.random.default_rng(1)
        frame = pl.DataFrame({f"f{column}": random.normal(size=4_000) for column in range(COLUMNS)})
        label = (frame["f0"] + frame["f1"] * frame["f2"] > 0).cast(pl.Int64)
        trees = HistGradientBoostingClassifier(max_iter=TREES, early_stopping=False).fit(frame, label)
        register_model(app.store, "trees", save_bundle(app.store, Model(trees, example=frame.head(50)), rows=frame))
        write_rows(place / "in.parquet", rows)
        model = app.load("trees")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.portable.data, options, providers=["CPUExecutionProvider"])
        seconds = bare(session, place / "in.parquet")
        print(f"bare ONNX Runtime loop: {rows / seconds:,.0f} rows per second")
        for jobs in (1, 2):
            wishes = Wishes(keep=("id",), jobs=jobs, overwrite=True)
            done = score_files(app.store, model, str(place / "in.parquet"), str(place / "out.parquet"), wishes=wishes)
            print(
                f"tidewheel score --jobs {jobs}: {rows / done.seconds:,.0f} rows per second,"
                f" {seconds / done.seconds:.2f} of the bare loop"
            )
        app.close()


if __name__ == "__main__":
    main()
