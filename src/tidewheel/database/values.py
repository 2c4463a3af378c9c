"""How values stand in columns: JSON as canonical text, the same bytes in both databases."""

from __future__ import annotations

from typing import Any

import orjson


def to_json(value: Any) -> str:
    """Write canonical JSON: sorted keys, numpy numbers accepted, NaN becomes null."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


def from_json(text: str | None) -> Any:
    """Read JSON back; an empty column is None."""
    return None if text is None else orjson.loads(text)
