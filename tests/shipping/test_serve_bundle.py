"""A shipped folder is served by one command, in a home that did not exist before."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tidewheel.shipping.ways import ship


def test_a_shipped_folder_is_served(yard: Any, tmp_path: Path) -> None:
    ship(yard.store, "trees", "folder", tmp_path / "model")
    command = [sys.executable, "-m", "tidewheel", "serve", "--bundle", str(tmp_path / "model"), "--port", "0"]
    with subprocess.Popen(
        [*command, "--home", str(tmp_path / "home")], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            address = line.split("predictions: ")[1].strip().removesuffix("/docs")
            row = yard.rows["trees"].row(0, named=True)
            asked = urllib.request.Request(f"{address}/predict/trees", data=json.dumps({"rows": [row]}).encode())
            with urllib.request.urlopen(asked, timeout=20) as answer:
                found = json.load(answer)
            assert (found["model"], found["version"]) == ("trees", 1)
        finally:
            server.kill()
