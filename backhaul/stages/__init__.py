"""The stages of a file, in this order; each stage reads what the one before it stored.

    submit → dispatch → plan → process → merge → announce

Beside them: `estimate` says what a job would take, `inquire` answers questions about jobs, `command` cancels and
redrives jobs, `conclude` records why a worker or run died, and `sweep` repairs jobs that are stuck between two stages.
"""
