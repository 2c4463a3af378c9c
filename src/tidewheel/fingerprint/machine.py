"""What machine a process runs on: operating system, processor, and the variables that change numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

# Instruction sets that change the last bits of sums and products in numerical libraries.
_FLAGS = frozenset(
    (
        *("sse4_2", "avx", "avx2", "fma", "amx_bf16", "amx_int8"),
        *("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16"),
        *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
    )
)
_BLOCK = 8_192  # bytes that describe the first processor; the file repeats itself for all others, and slowly
VARIABLES = (
    "PYTHONHASHSEED",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "TZ",
    "LANG",
    "LC_ALL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts about a machine that let a different number be explained."""

    system: str  # Linux 6.1.0
    libc: str  # glibc 2.36, "" where it does not say
    processor: str  # model name as the system tells it
    cores: int  # logical processors
    flags: tuple[str, ...]  # instruction sets that change numbers, sorted

    def as_json(self) -> dict[str, object]:
        """Return the record as a JSON object."""
        return {
            "system": self.system,
            "libc": self.libc,
            "processor": self.processor,
            "cores": self.cores,
            "flags": list(self.flags),
        }


@cache
def this_machine() -> Machine:
    """Describe this machine; read once per process.

    >>> this_machine().cores >= 1
    True
    """
    system = f"{os.uname().sysname} {os.uname().release}" if hasattr(os, "uname") else sys.platform
    architecture = os.uname().machine if hasattr(os, "uname") else ""
    facts = _cpuinfo()
    return Machine(
        system=system,
        libc=_libc(),
        processor=facts.get("model name") or facts.get("hardware") or architecture,
        cores=os.cpu_count() or 1,
        flags=tuple(sorted(_FLAGS.intersection((facts.get("flags") or facts.get("features") or "").split()))),
    )


def numeric_variables() -> Mapping[str, str]:
    """Return the environment variables that are set and change numbers or order; none of them is a secret."""
    return MappingProxyType({name: os.environ[name] for name in VARIABLES if name in os.environ})


def _cpuinfo() -> dict[str, str]:
    try:
        with Path("/proc/cpuinfo").open("rb", buffering=0) as file:
            block = file.read(_BLOCK).decode("utf-8", "replace")
    except OSError:
        return {}  # not Linux
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    return found


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""
