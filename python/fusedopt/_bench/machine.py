"""The machine that figures come from."""

import os
import platform
from pathlib import Path
from typing import Any

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _kernel_says(file: str, name: str) -> str | None:
    """Return what stands behind a name in a file of Linux's, None where there is none."""
    path = Path("/proc") / file
    for line in path.read_text().splitlines() if path.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def processor() -> str:
    """Return the processor's name."""
    return _kernel_says("cpuinfo", "model name") or platform.processor() or platform.machine()


def caches() -> dict[str, int]:
    """Return the bytes of each data cache that one core sees, by level; empty where unknown."""
    found = {}
    for index in sorted(_CACHES.glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            size = (index / "size").read_text().strip()
            found["L" + (index / "level").read_text().strip()] = int(size[:-1]) * _UNITS[size[-1]]
    return found


def last_level_cache() -> int:
    """Return its bytes, or a large guess where it is unknown."""
    return max(caches().values(), default=64 << 20)


def available_memory() -> int:
    """Return the bytes of memory that are free, or a small guess where that is unknown."""
    kibibytes = _kernel_says("meminfo", "MemAvailable")
    return int(kibibytes.split()[0]) * 1024 if kibibytes else 4 << 30


def cores() -> int:
    """Return how many this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return what a reader of figures wants to know."""
    return {
        "processor": processor(),
        "cores": cores(),
        "caches": caches(),
        "memory available": available_memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
