"""The wish for an input, before the store has picked one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A wish for an input, as it stands in a signature or among parameters."""

    kind: Literal["dataset", "model"]  # what is picked
    name: str  # of the dataset or model; a reference such as "bikes:3" picks that version
    alias: str = ""  # for a model: champion, challenger
    last: int | None = None  # only the rows of that many newest versions
    rows: int | None = None  # only that many newest rows
    at: datetime | None = None  # as the store knew it then; None: now

    def __repr__(self) -> str:
        if self.kind == "model":
            wish = f"{self.alias}({self.name!r})"
        elif self.last is None and self.rows is None:
            wish = f"latest({self.name!r})"
        else:
            wish = f"window({self.name!r}, {'last' if self.last else 'rows'}={self.last or self.rows})"
        return f"as_of({self.at.isoformat()!r}, {wish})" if self.at else wish
