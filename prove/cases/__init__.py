"""The fault cases of the deterministic layer, by what they strike; importing this declares them all."""

from prove.cases import commands, delivery, inputs, orchestrator, stores, workers

__all__ = ["commands", "delivery", "inputs", "orchestrator", "stores", "workers"]
