"""The fault cases of the deterministic layer, by what they strike; importing this declares them all."""

from prove.cases import chaos, commands, delivery, inputs, orchestrator, payments, redrives, steps, stores, workers

__all__ = [
    "chaos",
    "commands",
    "delivery",
    "inputs",
    "orchestrator",
    "payments",
    "redrives",
    "steps",
    "stores",
    "workers",
]
