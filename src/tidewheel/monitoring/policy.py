"""What is watched and when it is worth an alert."""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.errors import InvalidInput
from tidewheel.monitoring.losses import loss_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorPolicy:
    """Windows, thresholds and patience of a monitor.

    >>> MonitorPolicy(psi=0.25, windows=3).window_rows
    500
    """

    window_rows: int = 500  # predicted rows in a traffic window
    label_rows: int = 200  # labelled rows in a performance window
    psi: float | None = 0.2  # population stability index of a column that is drift; None: not watched
    ks: float | None = None  # Kolmogorov-Smirnov distance of a numeric column that is drift; None: not watched
    level: float = 0.999  # share of windows without drift that stay inside the null band, over all columns together
    windows: int = 2  # windows in a row that must agree before an alert opens
    clear_windows: int = 2  # windows in a row that must be calm before it closes
    exit_ratio: float = 0.75  # share of the threshold below which a window is calm
    decay: str | None = None  # metric that may decay; None: accuracy, or rmse for numbers
    worse_by: float = 0.1  # tolerated: points of a share (accuracy), else a share of the reference (rmse, log loss)
    run_length: float = 10_000.0  # labelled rows until a false decay alarm, expected, at least
    error_rate: float | None = 0.05  # share of failed requests of an arm that is an alert; None: not watched
    latency_ms: float | None = None  # p99 of an arm that is an alert; None: not watched
    schema: float | None = 0.05  # share of refused requests, or rise of missing or unknown values; None: not watched

    def __post_init__(self) -> None:
        counts = {
            "window_rows": self.window_rows,
            "label_rows": self.label_rows,
            "windows": self.windows,
            "clear_windows": self.clear_windows,
        }
        for name, count in counts.items():
            if count < 1:
                raise InvalidInput(f"{name} is {count}.", "Give a whole number of at least 1.")
        if not 0 < self.level < 1 or not 0 < self.exit_ratio <= 1:
            raise InvalidInput(
                f"level is {self.level}, exit_ratio is {self.exit_ratio}.", "Give shares between 0 and 1."
            )
        if not self.worse_by > 0 or not self.run_length >= 2:
            raise InvalidInput(
                f"worse_by is {self.worse_by}, run_length is {self.run_length}.",
                "Give a positive tolerance and a run length of at least 2 labelled rows.",
            )
        if self.decay is not None:
            loss_of(self.decay)
