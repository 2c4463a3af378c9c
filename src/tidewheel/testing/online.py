"""The promises of an online store, as tests that any backend can inherit."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import pytest

from tidewheel.errors import Conflict
from tidewheel.scoring.online import Generation, OnlineStore

ODD_IDS = ("1", "a b", "é🚲", "a/b", "'; DROP TABLE entry; --", "x" * 500, "{t}", "%", "")


class OnlineGround(Protocol):
    """A fresh, empty place for online tables."""

    def open(self) -> OnlineStore:
        """Open the store; a second time gives a second handle on the same tables."""
        ...


class OnlineStoreContract:
    """Subclass it in a test file as `class TestMyOnline(OnlineStoreContract)` with a fixture `ground`."""

    @pytest.fixture
    def ground(self) -> OnlineGround:
        """Return a fresh ground; override it."""
        pytest.fail("a subclass of OnlineStoreContract has to define the fixture `ground`")

    @pytest.fixture
    def online(self, ground: OnlineGround) -> OnlineStore:
        """Open the fresh store."""
        return ground.open()

    def test_nothing_is_seen_before_the_swap_and_all_after_it(self, ground: OnlineGround) -> None:
        """Also through another handle."""
        writer, reader = ground.open(), ground.open()
        first = generation("one", 1)
        writer.put_many("bikes", first, {"a": value(1), "b": value(2)})
        writer.put_many("bikes", first, {"b": value(3)})
        _same((reader.get_many("bikes", ["a"]), reader.live("bikes")), ([None], None))
        _same(writer.swap("bikes", first).rows, 2)
        found = reader.get_many("bikes", ["b", "zzz", "a", "b"])
        _same([each and each.value for each in found], [value(3), None, value(1), value(3)])
        _same({each.generation.id for each in found if each}, {"one"})
        _same(reader.live("bikes"), Generation(id="one", version="bikes:1", at=1, rows=2))

    def test_a_swap_replaces_the_whole_table_and_no_other(self, online: OnlineStore) -> None:
        """What the new generation lacks is gone."""
        fill(online, "bikes", "one", 1, {"a": value(1), "b": value(1)})
        fill(online, "trams", "other", 1, {"a": value(9)})
        fill(online, "bikes", "two", 2, {"a": value(2)})
        _same([each and each.value for each in online.get_many("bikes", ["a", "b"])], [value(2), None])
        _same([each and each.value for each in online.get_many("trams", ["a"])], [value(9)])

    def test_values_come_back_as_they_were(self, online: OnlineStore) -> None:
        """Whatever the ids and values are made of."""
        values: dict[str, Any] = {each: {"prediction": each, "n": [0.1, None, True, -(2**40)]} for each in ODD_IDS}
        fill(online, "odd {name}", "one", 1, values)
        found = online.get_many("odd {name}", list(ODD_IDS))
        _same([each and each.value for each in found], [values[each] for each in ODD_IDS])

    def test_an_older_generation_does_not_replace_a_newer_one(self, online: OnlineStore) -> None:
        """Of two that are computed at once, the one begun last stays."""
        old, new = generation("old", 1), generation("new", 2)
        online.put_many("bikes", old, {"a": value(1)})
        online.put_many("bikes", new, {"a": value(2)})
        online.swap("bikes", new)
        with pytest.raises(Conflict, match="begun before those that are live"):
            online.swap("bikes", old)
        _same([each and each.value for each in online.get_many("bikes", ["a"])], [value(2)])

    def test_a_second_swap_changes_nothing_and_a_live_generation_is_closed(self, online: OnlineStore) -> None:
        """A caller that lost the answer may ask again."""
        only = generation("one", 1)
        online.put_many("bikes", only, {"a": value(1)})
        _same(online.swap("bikes", only), online.swap("bikes", only))
        with pytest.raises(Conflict, match="live already"):
            online.put_many("bikes", only, {"b": value(2)})
        _same(online.get_many("bikes", ["b"]), [None])

    def test_what_was_begun_before_a_moment_is_forgotten(self, online: OnlineStore) -> None:
        """Live tables and those that a killed process left half filled."""
        fill(online, "bikes", "one", 10, {"a": value(1)})
        fill(online, "trams", "two", 20, {"a": value(1)})
        online.put_many("trams", generation("left", 5), {"a": value(1)})
        _same(online.expire(20), 2)
        _same((online.live("bikes"), online.get_many("bikes", ["a"])), (None, [None]))
        _same(online.live("trams") is not None, expected=True)
        _same(online.expire(20), 0)

    def test_many_entries_and_ids(self, online: OnlineStore) -> None:
        """More than fit into one statement."""
        fill(online, "bikes", "one", 1, {str(number): value(number) for number in range(12_000)})
        ids = [str(number) for number in range(0, 24_000, 2)]
        found = online.get_many("bikes", ids)
        _same([each.value["prediction"] if each else None for each in found[:6_001]], [*range(0, 12_000, 2), None])

    def test_readers_see_one_generation_or_another_while_it_is_swapped(self, ground: OnlineGround) -> None:
        """Never a mixture, never a gap."""
        writer, reader = ground.open(), ground.open()
        ids = [str(number) for number in range(50)]
        fill(writer, "bikes", "g0", 0, dict.fromkeys(ids, value(0)))
        done = threading.Event()
        odd: list[object] = []

        def read() -> None:
            while not done.is_set():
                seen = {each.value["prediction"] if each else None for each in reader.get_many("bikes", ids)}
                if len(seen) != 1 or None in seen:
                    odd.append(seen)

        thread = threading.Thread(target=read)
        thread.start()
        for number in range(1, 20):
            fill(writer, "bikes", f"g{number}", number, dict.fromkeys(ids, value(number)))
        done.set()
        thread.join()
        _same(odd, [])


def generation(name: str, at: int) -> Generation:
    """Return a generation of version 1 of bikes."""
    return Generation(id=name, version="bikes:1", at=at)


def value(number: int) -> dict[str, Any]:
    """Return what is put for an id."""
    return {"prediction": number}


def fill(online: OnlineStore, table: str, name: str, at: int, values: dict[str, dict[str, Any]]) -> None:
    """Put values and swap them in."""
    online.put_many(table, generation(name, at), values)
    online.swap(table, generation(name, at))


def _same(found: object, expected: object) -> None:
    if found != expected:
        pytest.fail(f"expected {str(expected)[:500]}, found {str(found)[:500]}")
