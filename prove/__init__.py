"""Prove: every fault case of the pipeline, again and again with other seeds, judged by a checker that is independent.

    python -m prove [--layer deterministic|process] [--seeds N] [--case F2] [--seed 17] [--minutes M] [--json] [--write]

`docs/faults.md` is the list of faults that cases are numbered by, `docs/proofs.md` what their longest runs came to.

The deterministic layer is built in five parts.

- `scheduler`, `network`, `threads`, `clock`: the real stages run over moto, each invocation an actor with a thread, an
  environment and a store of its own. Exactly one actor holds the baton. It hands it over at every call to a store,
  below botocore's own retries, and whenever it sleeps; the clock is virtual, and every choice comes from one seed, so
  the same seed gives the same history. At each call a fault may strike: a death, a pause, a lost answer, a refusal, a
  broken body, a stale read (`faults`).
- `orchestrator`, `messages`, `functions`: models of what lies between the stages. Step Functions with its retries,
  catches, waits and time-outs, written from `stacks/workflow.py`; S3 events through SQS, the table's stream and
  EventBridge, all at least once; Lambda environments that are reused.
- `vendor`: a paid provider, whose calls meet faults as those to a store do, and which keeps books.
- `checker`: reads the recorded history and what the stores hold in the end, imports nothing of Backhaul, and holds
  them against rules: the output is the fault-free one, nothing is lost, a superseded worker writes nothing ...
- `cases`: one function for each fault case, with the ID that `docs/faults.md` gives it. `mutations` puts bugs in on
  purpose; a case that does not find its own fails the run.

The process layer declares its cases with `site.real`, in `prove/cases/process_*.py`. It deploys the real stack to a
local cloud (`site`, `deployed`), with processors that are slow, poisoned or leave things behind (`processors`) and a
fake provider that counts what it is paid for (`provider`), and sends real signals to real processes. The rules on
what the stores hold in the end are the same; of real processes there is no history.
"""
