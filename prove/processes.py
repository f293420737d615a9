"""The process layer: the real stack on a local cloud, real processes, and signals that nothing can catch.

Importing this declares its cases. They share one deployment, which the first of them starts (`prove.site`). A seed
chooses which worker is struck and when; the machine decides the rest, so a seed repeats what is done and not the
history.
"""

from prove.cases import process_calls, process_delivery, process_poison, process_runs, process_workers

__all__ = ["process_calls", "process_delivery", "process_poison", "process_runs", "process_workers"]
