"""An S3 server of the tests' own: moto in a process, on a port that the kernel picks."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of an S3 server with an empty account."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        address = _address(process)
        # It logs each request; a pipe that nobody empties would stop it after 64 kB.
        threading.Thread(target=process.communicate, daemon=True).start()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def _address(process: subprocess.Popen[str]) -> str:
    said = []
    for line in process.stderr or ():
        said.append(line)
        found = re.search(r"Running on (http://\S+)", line)
        if found:
            return found.group(1)
    pytest.fail("the S3 server of the tests did not start:\n" + "".join(said))
