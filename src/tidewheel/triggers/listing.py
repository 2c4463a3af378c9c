"""Triggers on object stores: new objects, and those that were written over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable
from tidewheel.triggers.items import turn, waiting
from tidewheel.triggers.records import Context, Item, Reading, Rule, span

_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "az": "azure"}
_MARKS = ("ETag", "etag", "md5Hash", "content_settings")  # what stores call the tag of a content
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


@dataclass(slots=True)
class _Listed:
    """The newest listing that this process has made: a listing costs money."""

    at: float = float("-inf")  # monotonic seconds
    stamps: dict[str, str] = field(default_factory=dict)  # object to stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects(Rule):
    """Objects under a URL have a tag that no run has taken yet."""

    url: str  # s3://bucket/prefix, or any other that fsspec knows
    match: str = "*"  # pattern of the name below the prefix
    each: bool = False  # whether each object has a run of its own
    existing: bool = True  # whether objects count that were there at the first look
    look_every: float = 30.0  # seconds between two listings of one process
    options: Mapping[str, Any] = field(default_factory=dict)  # of the file system: endpoint_url ...
    _listed: _Listed = field(default_factory=_Listed, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"objects({self.url}{'' if self.match == '*' else f', {self.match}'})"

    def look(self, context: Context) -> Reading:
        """Hold for objects that are not used up."""
        stamps = self._stamps()
        first = context.remembered(self.name) is None
        keep = {self.name: True} if first else {}
        items = [Item(source=self.name, name=name, stamp=stamp) for name, stamp in sorted(stamps.items())]
        if first and not self.existing:
            return self._waits("counts from now on", keep, tuple(items))
        used = context.used_up(self.name)
        taken = turn([item for item in items if used.get(item.name) != item.stamp], each=self.each)
        reading = self._waits(f"no new object among {len(items)}", keep)
        if not taken:
            return reading
        urls = [item.name for item in taken]
        return waiting(reading, "objects", taken, {"objects": urls, "object": urls[0]}, "new object")

    def _stamps(self, now: Callable[[], float] = time.monotonic) -> dict[str, str]:
        if now() - self._listed.at >= self.look_every:
            self._listed.stamps = self._list()
            self._listed.at = now()
        return self._listed.stamps

    def _list(self) -> dict[str, str]:
        import fsspec

        try:
            files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **self.options)
            found = files.find(root, detail=True)
        except ImportError as error:
            scheme = self.url.partition("://")[0]
            raise MissingExtra(scheme, _EXTRAS.get(scheme, scheme)) from error
        except ValueError as error:
            raise InvalidInput(f"{self.url!r} is not a URL: {error}.", "Write s3://bucket/prefix.") from error
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise StorageUnavailable(
                f"{self.url} cannot be listed: {type(error).__name__}: {error}.",
                "Check the address, the bucket and the credentials; the next look tries again.",
            ) from error
        return {
            str(files.unstrip_protocol(path)): _stamp(info)
            for path, info in found.items()
            if info.get("type", "file") == "file" and fnmatch(path.removeprefix(root).lstrip("/"), self.match)
        }

    def _waits(self, reason: str, keep: Mapping[str, Any], seen: tuple[Item, ...] = ()) -> Reading:
        return Reading(rule=self.name, kind="objects", holds=False, reason=reason, keep=keep, seen=seen)


def _stamp(info: Mapping[str, Any]) -> str:
    """Return the tag of an object, else its size and time."""
    tag = next((str(info[mark]) for mark in _MARKS if info.get(mark)), "")
    changed = next((str(info[each]) for each in _TIMES if info.get(each)), "")
    return (tag.strip('"') or f"{info.get('size')}-{changed}")[:200]


def objects(
    url: str,
    *,
    match: str = "*",
    each: bool = False,
    existing: bool = True,
    look_every: str | float = "30s",
    **options: Any,
) -> Objects:
    """Be due when objects under a URL such as "s3://bucket/prefix" are new or were written over.

    Each content counts once. One run takes all that wait, or each object has its own with `each`; parameters may take
    `event("objects")` and `event("object")`. `options` go to the file system, such as `endpoint_url`.
    """
    if "://" not in url:
        raise InvalidInput(f"{url!r} is not a URL.", 'Write s3://bucket/prefix; for local files use files("inbox/*").')
    return Objects(
        url=url,
        match=match,
        each=each,
        existing=existing,
        look_every=span(look_every, "look_every", positive=False),
        options=options,
    )
