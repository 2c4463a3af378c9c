"""The promises of a blob store, as tests that any backend can inherit."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from tidewheel.blobs.store import BlobStore
from tidewheel.errors import CorruptBlob, InvalidInput, MissingBlob

PAYLOADS = (b"", b"\x00", b"tide", b"line\r\nline\x1a\xff", bytes(range(256)) * 5_000)
NO_DIGESTS = ("", "tide", "sha256:", "sha256:../../etc/passwd", "sha256:" + "Z" * 64, "md5:" + "0" * 64, "0" * 64)
ABSENT = "sha256:" + "0" * 64


class BlobGround(Protocol):
    """A fresh, empty place for blobs, and the means to harm it as disks and other processes do."""

    def open(self) -> BlobStore:
        """Open the store; a second time gives a second handle on the same blobs."""
        ...

    def overwrite(self, digest: str, data: bytes) -> None:
        """Put other bytes under a digest, behind the store's back, as a failing disk would."""
        ...

    def lose(self, digest: str) -> None:
        """Remove the bytes of a digest behind the store's back, as another process would."""
        ...


class BlobStoreContract:
    """Subclass it in a test file as `class TestMyBlobs(BlobStoreContract)` with a fixture `ground`.

    pytest runs it once for each promise, each time on a fresh ground.
    """

    @pytest.fixture
    def ground(self) -> BlobGround:
        """Return a fresh ground; override it."""
        pytest.fail("a subclass of BlobStoreContract has to define the fixture `ground`")

    @pytest.fixture
    def blobs(self, ground: BlobGround) -> BlobStore:
        """Open the fresh store."""
        return ground.open()

    @pytest.mark.parametrize("data", PAYLOADS, ids=len)
    def test_bytes_come_back_under_their_sha256(self, blobs: BlobStore, data: bytes) -> None:
        """What goes in comes out, and its name can be computed by anybody."""
        digest = blobs.put(data)
        _same(digest, "sha256:" + hashlib.sha256(data).hexdigest())
        _same(blobs.get(digest), data)
        _same(blobs.exists(digest), expected=True)

    def test_the_same_bytes_are_kept_once(self, blobs: BlobStore) -> None:
        """Putting again is allowed, changes nothing and gives the same digest."""
        first, again = blobs.put(b"tide"), blobs.put(b"tide")
        _same(first, again)
        _same([blob.digest for blob in blobs.kept()], [first])

    def test_kept_lists_all_and_only_what_is_kept(self, blobs: BlobStore) -> None:
        """A collector goes by the listing, may delete while it runs, and says since when a blob must be unused."""
        _same([blob.digest for blob in blobs.kept()], [])
        kept = {blobs.put(f"{number}".encode()) for number in range(20)}
        _same({blob.digest for blob in blobs.kept()}, kept)
        for digest in [blob.digest for blob in blobs.kept()]:
            blobs.delete(digest)
        _same([blob.digest for blob in blobs.kept()], [])
        began = datetime.now(UTC) - timedelta(minutes=5)
        digest = blobs.put(b"tide")
        (found,) = blobs.kept()
        _same((found.digest, found.size), (digest, 4))
        _same(began < found.used < datetime.now(UTC) + timedelta(minutes=5), expected=True)
        _same(blobs.delete(digest, unused_since=began), expected=False)
        _same(blobs.get(digest), b"tide")
        _same(blobs.delete(digest, unused_since=datetime.now(UTC) + timedelta(minutes=5)), expected=True)
        _same(blobs.exists(digest), expected=False)
        _same(blobs.delete(digest, unused_since=began), expected=True)

    def test_what_is_not_there_is_missing(self, blobs: BlobStore) -> None:
        """A digest that is not kept is named in the error, and its mend."""
        _same(blobs.exists(ABSENT), expected=False)
        with pytest.raises(MissingBlob, match=f"{ABSENT}.*\n.*step that made"):
            blobs.get(ABSENT)

    def test_deleting_is_repeatable(self, blobs: BlobStore) -> None:
        """Deleted bytes are gone, deleting again does nothing, and they can be put again."""
        digest, other = blobs.put(b"tide"), blobs.put(b"wheel")
        blobs.delete(digest)
        blobs.delete(digest)
        _same((blobs.exists(digest), blobs.exists(other)), (False, True))
        _same(blobs.get(blobs.put(b"tide")), b"tide")

    @pytest.mark.parametrize("text", NO_DIGESTS)
    def test_what_is_no_digest_is_refused(self, blobs: BlobStore, text: str) -> None:
        """Nothing but a digest reaches the disk: no path, no other algorithm."""
        for call in (blobs.get, blobs.exists, blobs.delete):
            with pytest.raises(InvalidInput, match="not a digest"):
                call(text)

    @pytest.mark.parametrize(
        "data", [b"", b"tid", b"tidf", b"tide and more"], ids=["empty", "short", "changed", "long"]
    )
    def test_changed_bytes_are_refused(self, blobs: BlobStore, ground: BlobGround, data: bytes) -> None:
        """Bytes that no longer match are never given out, and the error says how to mend it.

        Torn bytes are told by their length and mended by putting again; others are deleted first.
        """
        digest = blobs.put(b"tide")
        ground.overwrite(digest, data)
        with pytest.raises(CorruptBlob, match=f"{digest}.*\n.*delete it"):
            blobs.get(digest)
        if len(data) == len(b"tide"):
            blobs.delete(digest)
        _same(blobs.get(blobs.put(b"tide")), b"tide")

    def test_what_others_do_is_seen_at_once(self, blobs: BlobStore, ground: BlobGround) -> None:
        """No listing is remembered: a blob that another process removed is kept again when it is put again."""
        digest = blobs.put(b"tide")
        _same([blob.digest for blob in blobs.kept()], [digest])
        ground.lose(digest)
        _same(blobs.exists(digest), expected=False)
        _same([blob.digest for blob in blobs.kept()], [])
        blobs.put(b"tide")
        _same(blobs.get(digest), b"tide")

    def test_the_same_place_is_the_same_store(self, blobs: BlobStore, ground: BlobGround) -> None:
        """A store opened a second time at the same place holds the same blobs."""
        again = ground.open()
        digest = blobs.put(b"tide")
        _same(again.get(digest), b"tide")
        again.delete(digest)
        _same(blobs.exists(digest), expected=False)

    def test_many_writers_of_the_same_bytes_do_not_disturb_each_other(self, blobs: BlobStore) -> None:
        """Eight threads put the same and different blobs; each is there once and whole."""
        data = [bytes([number % 7]) * 10_000 for number in range(56)]
        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(blobs.put, data))
        _same(sorted(set(digests)), sorted(blob.digest for blob in blobs.kept()))
        for digest, expected in zip(digests, data, strict=True):
            _same(blobs.get(digest), expected)


def _same(seen: object, expected: object) -> None:
    if seen != expected:
        pytest.fail(f"expected {_short(expected)}, got {_short(seen)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
