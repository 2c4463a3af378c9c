#!/bin/sh
# Make .venv from requirements.lock, with uv where it is present, otherwise with venv and pip of a python3 (3.11 or newer).
# Run through make, which calls it only when the lock file or pyproject.toml has changed.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c "$new_enough" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "bootstrap: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3 ..." >&2
    exit 1
}

if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "$(find_python)" "$venv"
    echo "bootstrap: installing into $venv with uv" >&2
    uv pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
    uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
else
    python=$(find_python)
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv "$venv" || {
            echo "bootstrap: python3 has no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 1
        }
    fi
    echo "bootstrap: installing into $venv with pip (a few minutes the first time)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
touch "$venv/.installed"
