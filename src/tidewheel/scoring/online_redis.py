"""Online tables in Redis: a hash per generation, and a key that names the live one; scripts keep the two together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from tidewheel.errors import MissingExtra, StorageUnavailable
from tidewheel.scoring.online import Found, Generation, finished, overtaken

PREFIX = "tidewheel:online"
# All keys of a table share a hash tag, so that a cluster keeps them on one node and the scripts may touch them all.
GET = """
local live = redis.call('GET', KEYS[1])
if not live then return {} end
return {live, redis.call('HMGET', KEYS[2] .. cjson.decode(live)['id'], unpack(ARGV))}
"""
PUT = """
local live = redis.call('GET', KEYS[1])
if live and cjson.decode(live)['id'] == ARGV[1] then return 0 end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
for place = 3, #ARGV, 2 do redis.call('HSET', KEYS[2] .. ARGV[1], ARGV[place], ARGV[place + 1]) end
return 1
"""
SWAP = """
local live = redis.call('GET', KEYS[1])
if live then
  local held = cjson.decode(live)
  if held['id'] == ARGV[1] or held['at'] > tonumber(ARGV[2]) then return live end
  redis.call('ZREM', KEYS[3], held['id'])
  redis.call('UNLINK', KEYS[2] .. held['id'])
end
local now = string.gsub(ARGV[3], '"rows":0', '"rows":' .. redis.call('HLEN', KEYS[2] .. ARGV[1]))
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('SET', KEYS[1], now)
return now
"""
EXPIRE = """
local old = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '(' .. ARGV[1])
local live = redis.call('GET', KEYS[1])
for _, id in ipairs(old) do
  if live and cjson.decode(live)['id'] == id then redis.call('DEL', KEYS[1]) end
  redis.call('ZREM', KEYS[3], id)
  redis.call('UNLINK', KEYS[2] .. id)
end
return #old
"""
MOST_IDS = 5_000  # of one script call: Lua unpacks fewer than 8,000


class RedisOnline:
    """Tables in the Redis (5 or newer) of a URL such as redis://127.0.0.1:6379/0."""

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise MissingExtra("redis", "redis") from error
        self._errors: type[Exception] = redis.RedisError
        self._url = url
        with self._translated():
            self._client: Any = redis.Redis.from_url(url)
            scripts = {"get": GET, "put": PUT, "swap": SWAP, "expire": EXPIRE}
            self._scripts: dict[str, Callable[..., Any]] = {
                name: self._client.register_script(text) for name, text in scripts.items()
            }

    def get_many(self, table: str, ids: Sequence[str]) -> list[Found | None]:
        """Return what is live under each id; more than 5,000 are asked for again when a swap came between."""
        while True:
            answers = [self._some(table, ids[start : start + MOST_IDS]) for start in range(0, len(ids), MOST_IDS)]
            if len({generation.id if generation else "" for generation, _ in answers}) <= 1:
                return [found for _, some in answers for found in some]

    def _some(self, table: str, ids: Sequence[str]) -> tuple[Generation | None, list[Found | None]]:
        answer = self._run("get", table, *ids)
        if not answer:
            return None, [None] * len(ids)
        generation = msgspec.json.decode(answer[0], type=Generation)
        found = [
            None if value is None else Found(value=msgspec.json.decode(value), generation=generation)
            for value in answer[1]
        ]
        return generation, found

    def put_many(self, table: str, generation: Generation, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Add values to a generation that is being filled."""
        pairs: list[str | bytes] = []
        for each, value in values.items():
            pairs += [each, msgspec.json.encode(value)]
        for start in range(0, max(len(pairs), 1), MOST_IDS):
            if not self._run("put", table, generation.id, generation.at, *pairs[start : start + MOST_IDS]):
                raise finished(table, generation)

    def swap(self, table: str, generation: Generation) -> Generation:
        """Let a generation answer."""
        fresh = msgspec.json.encode(msgspec.structs.replace(generation, rows=0))
        live = msgspec.json.decode(self._run("swap", table, generation.id, generation.at, fresh), type=Generation)
        if live.id != generation.id:
            raise overtaken(table, generation, live)
        return live

    def live(self, table: str) -> Generation | None:
        """Return the generation that answers."""
        with self._translated():
            held = self._client.get(_keys(table)[0])
        return None if held is None else msgspec.json.decode(held, type=Generation)

    def expire(self, before: int) -> int:
        """Forget what was begun before a moment."""
        with self._translated():
            names = [key.decode() for key in self._client.scan_iter(f"{PREFIX}:{{*}}:generations")]
        tables = [name.removeprefix(f"{PREFIX}:{{").removesuffix("}:generations") for name in names]
        return sum(int(self._run("expire", table, before)) for table in tables)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def _run(self, script: str, table: str, *arguments: object) -> Any:
        with self._translated():
            return self._scripts[script](keys=_keys(table), args=list(arguments))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (self._errors, ValueError) as error:
            raise StorageUnavailable(
                f"Redis at {self._url.rpartition('@')[2]} does not answer: {error}",
                "Start it, or check online_url.",
                passing=True,
            ) from error


def _keys(table: str) -> list[str]:
    """Return the key of the live generation, the start of the keys of hashes, and the list of generations."""
    stem = f"{PREFIX}:{{{table}}}"
    return [f"{stem}:live", f"{stem}:entries:", f"{stem}:generations"]
