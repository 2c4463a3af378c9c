"""What `import tidewheel` and `tidewheel --help` cost over bare Python, in CPU seconds of the process."""

from __future__ import annotations

from benchmarks.measure import in_turn, python, show


def main() -> None:
    """Measure and print."""
    figures = in_turn(
        {
            "bare": python("-c", "pass"),
            "import": python("-c", "import tidewheel"),
            "help": python("-m", "tidewheel", "--help"),
            "sqlalchemy": python("-c", "import sqlalchemy"),
            "sklearn": python("-c", "import sklearn"),
        },
        runs=7,
    )
    bare = figures["bare"]
    show(
        f"Start-up, CPU seconds over bare Python ({bare:.3f} s)",
        [
            ("import tidewheel", f"{figures['import'] - bare:.3f}", "target 0.1"),
            ("tidewheel --help", f"{figures['help'] - bare:.3f}", "target 0.1"),
            ("import sqlalchemy (for scale)", f"{figures['sqlalchemy'] - bare:.3f}", ""),
            ("import sklearn (for scale)", f"{figures['sklearn'] - bare:.3f}", ""),
        ],
    )


if __name__ == "__main__":
    main()
