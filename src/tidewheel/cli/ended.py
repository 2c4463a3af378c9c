"""What a command says of a run that it has brought to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store
    from tidewheel.pipelines.records import Run


def tell_end(store: Store, run: Run) -> None:
    """Print how a run ended, what it gave, and where to read on."""
    from tidewheel.pipelines.preview import preview
    from tidewheel.pipelines.runs import shelf_of
    from tidewheel.pipelines.stored import stored_from

    kept = run.facts.get("output")
    if kept is not None:
        stored = stored_from(kept)
        shown = preview(stored, shelf_of(store)).text if stored.codec == "tree" else f"a {stored.codec}"
        print(f"output: {shown}")
    print(f"run {run.id} {run.state}   why: tidewheel why {run.id[-12:]}")
