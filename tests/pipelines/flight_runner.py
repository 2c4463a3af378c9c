"""Runs one pipeline of `flight_steps.py`: `python flight_runner.py URL HOME NAME EXECUTOR BOOK [RUN]`."""

from __future__ import annotations

import sys
from pathlib import Path

from tidewheel.app import open_store
from tidewheel.pipelines.runs import resume_run, start_run
from tidewheel.pipelines.target import load_target
from tidewheel.settings import Settings


def main() -> None:
    """Run or resume, print what happens, then the output."""
    url, home, name, executor, book, *run = sys.argv[1:]
    store = open_store(Settings(home=Path(home), database_url=url))
    pipeline = load_target(f"{Path(__file__).with_name('flight_steps.py')}:{name}")

    def tell(event: object) -> None:
        print(getattr(event, "step", ""), getattr(event, "state", ""), getattr(event, "detail", ""), flush=True)

    if run:
        done = resume_run(store, run[0], pipeline, executor=executor, on_event=tell)
    else:
        done = start_run(store, pipeline, {"book": book}, executor=executor, on_event=tell)
    print("output", done.output, *(step.state for step in done.steps), flush=True)
    store.close()


if __name__ == "__main__":
    main()
