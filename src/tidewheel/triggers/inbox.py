"""Triggers on files: each counts once, as soon as it is complete."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.triggers.items import turn, waiting
from tidewheel.triggers.records import Context, Item, Reading, Rule, span, words

By = Literal["stat", "digest"]
_MOST_OTHERS = 2_000  # files beside those that are waited for, among which a rename is noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    name: str  # as the pattern gives it
    stamp: str  # size, time of change in nanoseconds, inode
    inode: int  # which stays when the file is renamed
    changed: int  # nanoseconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Files(Rule):
    """Complete files match a pattern that no run has taken yet.

    A file is complete when its size, time and inode have been the same for `settle` seconds, or at once when it was
    renamed: when its inode had a name in the same folder that the pattern does not match.
    """

    pattern: str  # as `glob` reads it; relative to the working folder
    settle: float = 2.0  # seconds in which a file must not change
    each: bool = False  # whether each file has a run of its own
    existing: bool = True  # whether files count that were there at the first look
    by: By = "stat"  # what tells contents apart: size, time and inode, or a digest of the bytes

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"files({self.pattern})"

    @property
    def folder(self) -> Path:
        """The folder under which all of its files lie."""
        parts = Path(self.pattern).parts
        plain = [part for place, part in enumerate(parts) if not any(map(glob.has_magic, parts[: place + 1]))]
        found = Path(*plain) if plain else Path()
        return found.parent if len(plain) == len(parts) else found

    def look(self, context: Context) -> Reading:
        """Hold for complete files that are not used up."""
        now, memory = micros(context.now), context.remembered(self.name)
        found = self._matching()
        if memory is None and not self.existing:
            first: dict[str, Any] = {"pending": {}, "others": self._others(found)}
            return self._waits("counts from now on", {self.name: first}, tuple(self._item(file) for file in found))
        before: Mapping[str, Any] = memory or {"pending": {}, "others": []}
        used = context.used_up(self.name)
        new = [file for file in found if not used.get(file.name, "").startswith(f"{file.stamp} ")]
        pending = {file.name: _since(file, before["pending"], now) for file in new}
        kept: dict[str, Any] = {"pending": pending, "others": self._others(found)}
        keep = {} if kept == memory else {self.name: kept}
        complete = [file for file in new if self._is_complete(file, pending[file.name][1], before, context)]
        items = [self._item(file) for file in sorted(complete, key=lambda file: (file.changed, file.name))]
        known = tuple(item for item in items if self._is_known(item, used))
        taken = turn([item for item in items if item not in known], each=self.each)
        reading = self._waits(self._told(new, complete), keep, known)
        if not taken:
            return reading
        paths = [str(Path(item.name).absolute()) for item in taken]
        return waiting(reading, "files", taken, {"files": paths, "file": paths[0]}, "new file")

    def _matching(self) -> list[_File]:
        names = glob.iglob(self.pattern, recursive=True)  # noqa: PTH207 - the pattern may be absolute
        return [file for file in map(_look_at, names) if file is not None]

    def _others(self, found: Sequence[_File]) -> list[int]:
        """Return the inodes of files beside them, one of which may be renamed to match."""
        if glob.has_magic(str(Path(self.pattern).parent)):
            return []
        names = {Path(file.name).name for file in found}
        try:
            with os.scandir(Path(self.pattern).parent) as entries:
                others = [entry.inode() for entry in entries if entry.name not in names and entry.is_file()]
        except OSError:
            return []
        return sorted(others)[:_MOST_OTHERS]

    def _is_complete(self, file: _File, since: int, before: Mapping[str, Any], context: Context) -> bool:
        if file.inode in before["others"]:
            return True
        return context.now - from_micros(since) >= timedelta(seconds=self.settle)

    def _item(self, file: _File) -> Item:
        digest = _digest(file.name) if self.by == "digest" else ""
        return Item(source=self.name, name=file.name, stamp=f"{file.stamp} {digest}")

    def _is_known(self, item: Item, used: Mapping[str, str]) -> bool:
        """Say whether the same content was taken under another time."""
        digest = item.stamp.partition(" ")[2]
        return bool(digest) and used.get(item.name, "").endswith(f" {digest}")

    def _told(self, new: Sequence[_File], complete: Sequence[_File]) -> str:
        growing = len(new) - len(complete)
        if growing:
            return f"{growing} not complete yet: unchanged for {words(self.settle)} is asked"
        return "no new file" if self.folder.is_dir() else f"there is no folder {self.folder} yet"

    def _waits(self, reason: str, keep: Mapping[str, Any], seen: tuple[Item, ...]) -> Reading:
        return Reading(rule=self.name, kind="files", holds=False, reason=reason, keep=keep, seen=seen)


def _look_at(name: str) -> _File | None:
    try:
        found = os.stat(name)  # noqa: PTH116 - of a name that glob gave
    except OSError:
        return None  # it went away since it was listed
    if not stat.S_ISREG(found.st_mode):
        return None
    stamp = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
    return _File(name=name, stamp=stamp, inode=found.st_ino, changed=found.st_mtime_ns)


def _since(file: _File, pending: Mapping[str, Any], now: int) -> list[Any]:
    """Return the stamp of a file and since when it has it; a clock that went back begins anew."""
    before = pending.get(file.name)
    return [file.stamp, min(before[1], now) if before is not None and before[0] == file.stamp else now]


def _digest(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files(
    pattern: str, *, settle: str | float = "2s", each: bool = False, existing: bool = True, by: By = "stat"
) -> Files:
    """Be due when complete files match a pattern such as "inbox/*.csv"; each file counts once.

    One run takes all that wait, or each file has its own with `each`. The run's parameters may take them with
    `event("files")` and `event("file")`. With `by="digest"` a file that is written again with the same bytes does not
    count; with `existing=False` neither do those that were there at the first look.
    """
    if not pattern or by not in ("stat", "digest"):
        raise InvalidInput(f"files({pattern!r}, by={by!r}) is not understood.", 'Write it like files("inbox/*.csv").')
    return Files(pattern=pattern, settle=span(settle, "settle", positive=False), each=each, existing=existing, by=by)
