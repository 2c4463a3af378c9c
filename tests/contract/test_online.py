"""Every online store of ours keeps the promises of the seam."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.scoring.online import MemoryOnline, OnlineStore, open_online
from tidewheel.scoring.online_redis import RedisOnline
from tidewheel.scoring.online_sqlite import SqliteOnline
from tidewheel.testing.online import OnlineStoreContract, fill, generation, value

REDIS = "redis://127.0.0.1:6379/11"


class MemoryGround:
    """One dictionary."""

    def __init__(self) -> None:
        self._only = MemoryOnline()

    def open(self) -> OnlineStore:
        return self._only


class TestMemoryOnline(OnlineStoreContract):
    """The twin in memory."""

    @pytest.fixture
    def ground(self) -> MemoryGround:
        return MemoryGround()


class SqliteGround:
    """A file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def open(self) -> OnlineStore:
        return SqliteOnline(self._file)


class TestSqliteOnline(OnlineStoreContract):
    """A file of SQLite."""

    @pytest.fixture
    def ground(self, tmp_path: Path) -> SqliteGround:
        return SqliteGround(tmp_path / "below" / "online.db")

    def test_what_was_replaced_leaves_the_file(self, tmp_path: Path) -> None:
        online = SqliteOnline(tmp_path / "online.db")
        for number in range(3):
            fill(online, "bikes", f"g{number}", number, {str(each): value(each) for each in range(6_000)})
        with online._transaction("DEFERRED") as tx:
            assert tx.execute("SELECT COUNT(*) FROM entry").fetchone() == (6_000,)


class RedisGround:
    """A database of the Redis of this machine."""

    def open(self) -> OnlineStore:
        return RedisOnline(REDIS)


@pytest.mark.services
class TestRedisOnline(OnlineStoreContract):
    """A real Redis."""

    @pytest.fixture
    def ground(self) -> Iterator[RedisGround]:
        client = redis.Redis.from_url(REDIS)
        try:
            client.flushdb()
        except redis.RedisError as error:
            pytest.skip(f"no Redis answers at {REDIS} ({error}); start one: redis-server")
        yield RedisGround()
        client.flushdb()

    def test_what_was_replaced_leaves_redis(self, ground: RedisGround) -> None:
        online = ground.open()
        for number in range(3):
            fill(online, "bikes", f"g{number}", number, {"a": value(number)})
        assert len(list(redis.Redis.from_url(REDIS).scan_iter("*entries*"))) == 1


def test_what_is_out_of_reach_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"Redis at redis://127\.0\.0\.1:1/0 does not answer"):
        RedisOnline("redis://127.0.0.1:1/0").get_many("bikes", ["a"])
    with pytest.raises(InvalidInput, match="names no online store"):
        open_online("mongo://x", tmp_path)
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageUnavailable, match="cannot be used"):
        open_online(f"sqlite:///{tmp_path / 'broken.db'}", tmp_path).swap("bikes", generation("g", 1))
