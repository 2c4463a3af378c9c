"""Two workers under load: time until ready, memory of each, 1,000 hot swaps, 25 restarts; how many requests failed.

`python -m benchmarks.workers [SWAPS] [RESTARTS]`. Load comes from this process over keep-alive connections that are
opened anew only when an answer says so: whatever else ends one counts as a failed request.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.measure import ONE_THREAD, show
from benchmarks.serving import MODEL, prepare

CLIENTS = 8
QUICK = {"TIDEWHEEL_SERVE_POLL_SECONDS": "0.01"}


class Clients:
    """Connections that ask again and again, in a thread with an event loop of its own."""

    def __init__(self, port: int, body: bytes) -> None:
        self.statuses: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.newest = ""
        head = f"POST /predict/{MODEL} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request, self._port, self._going = head.encode() + body, port, True
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()

    def end(self) -> None:
        self._going = False
        self._thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(CLIENTS)))

    async def _one(self) -> None:
        while self._going:
            writer: asyncio.StreamWriter | None = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                await self._talk(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:  # a refused connection counts as a failure, too
                self.statuses[type(error).__name__] += 1
            finally:
                if writer is not None:
                    writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closes = False
        while self._going and not closes:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
            closes = b"connection: close" in head
            self.statuses[head.split(b" ")[1].decode()] += 1
            self.newest = str(json.loads(body).get("version"))
            self.versions[self.newest] += 1


def workers_of(port: int) -> list[dict[str, Any]]:
    """Return what the server says of its workers."""
    found = json.loads(urlopen(f"http://127.0.0.1:{port}/v2/health/ready").read())["workers"]
    return [each for each in found if each["ready"] and not each.get("leaving")]


def memory(pid: int, what: str = "VmRSS") -> float:
    """Return megabytes of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{what}:")[1].split()[0]) / 1_000


def wait_for(condition: Any) -> None:
    """Wait until something holds."""
    while not condition():
        time.sleep(0.002)


def begin(home: Path, front: str) -> subprocess.Popen[str]:
    """Start a server of two workers."""
    command = [sys.executable, "-m", "tidewheel", "serve", "--home", str(home), "--port", "0"]
    return subprocess.Popen(
        [*command, "--workers", "2", "--front", front],
        stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD | QUICK,
    )  # fmt: skip


def measure(front: str, swaps: int, restarts: int) -> list[tuple[str, str, str]]:
    """Run one server through all of it."""
    from tidewheel.app import open_store
    from tidewheel.registry.traffic import set_traffic
    from tidewheel.serving.workers import ask_to_reload
    from tidewheel.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        body = prepare(home)
        store = open_store(Settings(home=home))
        begun = time.perf_counter()
        process = begin(home, front)
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().removesuffix("/docs").rsplit(":", 1)[1])
        ready = time.perf_counter() - begun
        threading.Thread(target=process.stdout.read, daemon=True).start()
        wait_for(lambda: len(workers_of(port)) == 2)
        clients = Clients(port, body)
        wait_for(lambda: sum(clients.statuses.values()) > 1_000)
        sizes = [memory(each["pid"]) for each in workers_of(port)]
        begun = time.perf_counter()
        for swap in range(swaps):
            wanted = 1 + swap % 2
            set_traffic(store, MODEL, champion=wanted, by="bench", reason="swap")
            wait_for(lambda version=str(wanted): clients.newest == version)
        swapped, after_swaps = time.perf_counter() - begun, clients.statuses.copy()
        begun = time.perf_counter()
        for _ in range((restarts + 1) // 2):
            before = {each["pid"] for each in workers_of(port)}
            ask_to_reload(home, port)
            wait_for(lambda old=before: not old & {each["pid"] for each in workers_of(port)})
            wait_for(lambda: len(workers_of(port)) == 2)
        restarted = time.perf_counter() - begun
        grown = [memory(each["pid"]) for each in workers_of(port)]
        clients.end()
        process.terminate()
        process.wait(30)
        store.close()
    total = clients.statuses
    return [
        ("ready after", f"{ready:.2f} s", "target 1 s"),
        ("memory of a worker under load, MB", " ".join(f"{each:.0f}" for each in sizes), "target 120"),
        (f"{swaps} swaps", f"{swapped:.1f} s", f"{failed(after_swaps)} failed of {sum(after_swaps.values()):,}"),
        (
            f"{(restarts + 1) // 2 * 2} restarts",
            f"{restarted:.1f} s",
            f"{failed(total) - failed(after_swaps)} failed of {sum(total.values()) - sum(after_swaps.values()):,}",
        ),
        ("memory of a worker afterwards, MB", " ".join(f"{each:.0f}" for each in grown), ""),
    ]


def failed(statuses: Counter[str]) -> int:
    """Return how many requests had another end than 200."""
    return sum(count for status, count in statuses.items() if status != "200")


def main(swaps: int = 1_000, restarts: int = 25) -> None:
    """Measure and print."""
    for front in ("fast", "uvicorn"):
        show(f"Two workers on the front {front}, {CLIENTS} clients", measure(front, swaps, restarts))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
