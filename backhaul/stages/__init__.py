"""The stages a file goes through, in this order; each reads what the one before stored.

    submit → dispatch → plan → process → merge → announce

Beside them: `estimate` says what a job would take, `inquire` answers questions about jobs, `conclude` records what
Step Functions says of a worker or run that died, and `sweep` mends what fell between two stages.
"""
