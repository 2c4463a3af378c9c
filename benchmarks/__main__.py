"""Run benchmarks: all of them, or those named: `python -m benchmarks startup pipelines`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

NOT_BENCHMARKS = {"__init__", "__main__", "measure"}


def main() -> None:
    """Run the named benchmarks one after the other."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in NOT_BENCHMARKS)
    wanted = sys.argv[1:] or known
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"There is no benchmark {', '.join(sorted(unknown))}. These exist: {', '.join(known)}.")
    for name in wanted:
        import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
