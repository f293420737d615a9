"""The parts that every function needs, built once when its environment starts.

Logs and metrics have the deployment's name, which Powertools reads from `POWERTOOLS_SERVICE_NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from backhaul.model.clock import SystemClock
from backhaul.model.settings import Settings
from backhaul.store import Store

ASSET = Path(__file__).resolve().parent.parent
PROCESSORS = ASSET / "processors"
"""The folder of the asset with the user's own processors."""

settings = Settings.from_env(os.environ)
clock = SystemClock()
store = Store(settings, clock)
logger = Logger()

_UNITS = {"Bytes": MetricUnit.Bytes, "QueueAge": MetricUnit.Seconds}


def measure(processor: str, **amounts: float) -> None:
    """Write metrics of one processor in the embedded metric format; a name without a known unit is a count."""
    _write({"processor": processor}, amounts)


def count_all(**amounts: float) -> None:
    """Write counts of the whole deployment as metrics."""
    _write({}, amounts)


def _write(dimensions: Mapping[str, str], amounts: Mapping[str, float]) -> None:
    metrics = EphemeralMetrics(namespace="Backhaul")
    for name, value in dimensions.items():
        metrics.add_dimension(name, value)
    for name, amount in amounts.items():
        metrics.add_metric(name, _UNITS.get(name, MetricUnit.Count), amount)
    metrics.flush_metrics()
