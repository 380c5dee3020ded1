"""Daft, set up: no telemetry, no progress bars of its own, errors reported once and by us.

Import it from here (`from vernacular.corpus.engine import daft`), since the settings must stand before the import.
"""

from __future__ import annotations

import logging
import os
import re

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

# The executor logs every error of a plan before raising it.
logging.getLogger("daft_local_execution").setLevel(logging.CRITICAL)

__all__ = ["DataSource", "DataSourceTask", "RecordBatch", "daft", "operating_system_error"]


def operating_system_error(error: Exception) -> OSError | None:
    """The operating system's error (disk full, …) that Daft passes on in words only, or None."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None
