"""The fault cases of the deterministic layer, by what they strike; importing this declares them all."""

from prove.cases import (
    chaos,
    clocks,
    commands,
    delivery,
    inputs,
    orchestrator,
    payments,
    providers,
    redrives,
    steps,
    stores,
    waits,
    workers,
)

__all__ = [
    "chaos",
    "clocks",
    "commands",
    "delivery",
    "inputs",
    "orchestrator",
    "payments",
    "providers",
    "redrives",
    "steps",
    "stores",
    "waits",
    "workers",
]
