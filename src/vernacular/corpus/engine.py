"""Daft, set up: no telemetry, no progress bars of its own, errors reported once and by us.

Import it from here (`from vernacular.corpus.engine import daft`), since the settings must stand before the import.
"""

from __future__ import annotations

import logging
import os

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

# The executor logs every error of a plan before raising it.
logging.getLogger("daft_local_execution").setLevel(logging.CRITICAL)

__all__ = ["DataSource", "DataSourceTask", "RecordBatch", "daft"]
