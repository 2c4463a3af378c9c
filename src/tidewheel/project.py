"""tidewheel in a notebook or a program: one store and the verbs of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidewheel.app import lineage_of, open_store, plan_pipeline, reproduce_run, run_pipeline, sweep_pipeline
from tidewheel.settings import Settings, load_settings

if TYPE_CHECKING:
    import polars as pl

    from tidewheel.data.records import DatasetVersion
    from tidewheel.lineage.graph import Graph
    from tidewheel.pipelines.pipeline import Pipeline
    from tidewheel.pipelines.plan import Plan
    from tidewheel.pipelines.reproduce import Reproduction
    from tidewheel.pipelines.runs import Run
    from tidewheel.pipelines.sweep import Sweep
    from tidewheel.pipelines.why import Why
    from tidewheel.scoring.loaded import Loaded


class App:
    """tidewheel in a notebook or a program: one store, the verbs of the command line.

    >>> import tidewheel, tempfile
    >>> app = tidewheel.open(tempfile.mkdtemp())
    >>> app.datasets()
    []
    >>> app.close()
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = open_store(settings)

    def register(self, name: str, source: Any, *, time: str | None = None, label: str | None = None) -> DatasetVersion:
        """Keep a file or frame as version 1 of a new dataset."""
        from tidewheel.data import datasets

        return datasets.register(self.store, name, source, time=time, label=label)

    def append(self, name: str, source: Any) -> DatasetVersion:
        """Check rows against the schema and keep them as the next version."""
        from tidewheel.data import datasets

        return datasets.append(self.store, name, source)

    def read(self, reference: str) -> pl.DataFrame:
        """Return the rows of `name` or `name:3`."""
        from tidewheel.data import datasets

        return datasets.read(self.store, reference)

    def datasets(self) -> list[DatasetVersion]:
        """Return the newest version of every dataset."""
        from tidewheel.data import datasets

        return datasets.list_datasets(self.store)

    def run(self, pipeline: str | Pipeline[Any, Any], **parameters: Any) -> Run:
        """Run a pipeline: the decorated function itself or `FILE.py:NAME`."""
        from tidewheel.pipelines.notebook import notebook_watcher

        watcher, where = notebook_watcher(), self.settings.executor
        return run_pipeline(self.store, pipeline, parameters, executor=where, on_event=watcher)

    def sweep(
        self,
        pipeline: str | Pipeline[Any, Any],
        *,
        grid: Mapping[str, Sequence[Any]],
        parameters: Mapping[str, Any] | None = None,
        jobs: int | None = None,
        by: str | None = None,
        largest: bool = False,
    ) -> Sweep:
        """Run a pipeline once for each point of a grid, over parameters that all share; `by` names what ranks."""
        from tidewheel.pipelines.sweep import Ranking

        order, where = Ranking(by=by, largest=largest), self.settings.executor
        return sweep_pipeline(self.store, pipeline, grid, parameters or {}, jobs=jobs, ranking=order, executor=where)

    def plan(self, pipeline: str | Pipeline[Any, Any], **parameters: Any) -> Plan:
        """Say which steps would run or come from the cache, without running them."""
        return plan_pipeline(self.store, pipeline, parameters)

    def why(self, run_or_step: str) -> Why:
        """Say why a run or step happened and what changed since the last time."""
        from tidewheel.pipelines.why import why

        return why(self.store, run_or_step)

    def reproduce(self, run: str, *, here: bool = False, rtol: float = 1e-6, atol: float = 1e-9) -> Reproduction:
        """Run an old run again from its lock, sources and inputs, and compare each output."""
        from tidewheel.pipelines.likeness import Tolerance
        from tidewheel.pipelines.reproduce import Wish

        tolerance = Tolerance(relative=rtol, absolute=atol)
        wish = Wish(here=here, tolerance=tolerance, executor=self.settings.executor)
        return reproduce_run(self.settings, run, wish)

    def load(self, model: str, *, trust: bool = False) -> Loaded:
        """Return `name@champion`, `name:3`, the newest `name` or a bundle's digest, ready to answer in this process."""
        from tidewheel.scoring.loaded import load_model

        return load_model(self.store, model, trust=trust)

    def lineage(self, name: str, *, kind: str = "") -> Graph:
        """Return where a thing comes from and what hangs on it."""
        return lineage_of(self.store, name, kind=kind)

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()


def open_app(home: str | Path | None = None, *, environment: str | None = None) -> App:
    """Open tidewheel on a folder (default: as `tidewheel.toml` says, else `.tidewheel` here)."""
    from dataclasses import replace

    settings = load_settings(None, environment)
    return App(replace(settings, home=Path(home).expanduser().resolve()) if home else settings)


def load(
    model: str | Path, *, home: str | Path | None = None, environment: str | None = None, trust: bool = False
) -> Loaded:
    """Return a model that answers in this process: `load("bikes@champion").predict(frame)`.

    `model` is `name`, `name:3`, `name@alias` or the digest of a bundle in the store of this project (or of `home`), or
    a folder that `tidewheel ship` wrote, which needs no store. `trust=True` lets a pickle be loaded.
    """
    from tidewheel.scoring.loaded import is_folder, load_folder

    if is_folder(model):
        return load_folder(Path(model), trust=trust)
    app = open_app(home, environment=environment)
    try:
        return app.load(str(model), trust=trust)
    finally:
        app.close()
