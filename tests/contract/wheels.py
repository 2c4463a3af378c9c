"""Small real packages for isolated environments, made on the spot: no index is asked."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path


def wheel(folder: Path, name: str, version: str, source: str) -> Path:
    """Write a wheel with one module and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tidewheel\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(_line(path, text) for path, text in files.items()) + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return path


def repacked(folder: Path, name: str) -> Path:
    """Write a wheel of an installed distribution, as it was before it was installed, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    found = distribution(name)
    tags = [line.removeprefix("Tag: ") for line in _text(found, "WHEEL").splitlines() if line.startswith("Tag: ")]
    tag = "-".join(".".join(dict.fromkeys(parts)) for parts in zip(*(each.split("-") for each in tags), strict=True))
    lines = [line for line in _text(found, "RECORD").splitlines() if _is_packed(line.split(",")[0])]
    stem = f"{found.metadata['Name'].replace('-', '_').replace('.', '_')}-{found.version}"
    info = next(line.split("/")[0] for line in lines if line.split("/")[0].endswith(".dist-info"))
    path = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:  # not compressed: it is read once or twice
        for line in lines:
            inside = line.rsplit(",", 2)[0].strip('"')
            archive.write(Path(str(found.locate_file(inside))), inside)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))
    return path


def _text(found: Distribution, name: str) -> str:
    text = found.read_text(name)
    if text is None:
        raise LookupError(f"{found.metadata['Name']} was installed without {name}")
    return text


def _is_packed(path: str) -> bool:
    """Say whether a file came in the wheel: not a script, nor what an installer or Python wrote."""
    made = ("/RECORD", "/INSTALLER", "/REQUESTED", "/direct_url.json", "/uv_cache.json", "/uv_build.json", ".pyc")
    return bool(path) and not path.startswith(("..", "/")) and not path.endswith(made)


def _line(path: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(text)}\n"
