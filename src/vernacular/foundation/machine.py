"""What ran where: package versions and hardware, for artifacts and benchmark results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

_RECORDED_PACKAGES = (
    "vernacular",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "daft",
    "pyarrow",
    "numpy",
    "lm-eval",
)


def package_versions(packages: tuple[str, ...] = _RECORDED_PACKAGES) -> dict[str, str]:
    """Installed version of each package; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def processor_name() -> str:
    """The processor's model name as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Physical memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict[str, str | int]:
    """Processor, cores, memory and system: enough to judge a timing by. Names no host."""
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.machine()}",
    }
