"""What the demo is asked for, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the command line asked for."""

    data: Path | None = None  # table to turn on; None: the handwritten digits
    time: str = ""  # its column of time
    label: str = ""  # its column to be predicted
    history: int = 500  # rows known at the start
    drop: tuple[str, ...] = ()  # columns left out
    label_delay: int = 24  # rows until a label arrives
    sabotage: str = ""  # "", "labels" or "serving"
    home: Path | None = None  # folder of the store; None: a new one under .tidewheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the demo ended; its fields are the JSON object of `--json`."""

    metric: str  # accuracy or rmse
    loop: float  # score of what callers were answered
    frozen: float  # score of the first champion on the same rows
    no_change: float  # score of predicting the previous label
    triggers: int  # triggers that fired
    runs: int  # pipeline runs
    promotions: int  # candidates that became champion, the first one not counted
    refusals: int  # candidates that a gate refused
    rollbacks: int  # candidates that the canary gave up
    failed_requests: int  # requests without a good answer
    seconds: float  # wall time from the first step to the end of the stream
    trace: dict[str, Any]  # what stands behind the last prediction
