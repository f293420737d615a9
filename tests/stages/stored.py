"""A deployment that holds what an earlier version of Backhaul stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from moto.backends import get_backend

from backhaul import Chat, Lines, Message, Processor
from backhaul.model.job import JobRef, JobState
from backhaul.model.task import RunTask, ShardTask
from backhaul.providers import Answer, Usage
from backhaul.stages.conclude import cause_of, conclude_run, conclude_shard
from prove.functions import FunctionFailed
from tests.faults.machine import Machine

STORED = Path(__file__).parent.parent / "fixtures" / "stored"
DATA = b"".join(b"line %04d\n" % number for number in range(40))


class Model:
    """A paid model that writes in capitals and knows what it was asked."""

    max_texts = 0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, request: Any, *, key: str | None = None, timeout: float | None = None) -> Answer:
        self.asked.append(request.messages[0].content)
        return Answer(self.asked[-1].upper(), Usage(10, 20))


@dataclass
class Stored:
    """What one version stored, put into a deployment of today; `trouble` is what a record raises."""

    deployment: Any
    version: str = "v1"
    trouble: dict[str, Exception] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    """The records that processors were given since."""

    def __post_init__(self) -> None:
        self._new: dict[str, str] = {}
        self.names: dict[str, dict[str, Any]] = self.read("names")
        self.deployment.clock.time = datetime.fromisoformat(self.read("clock"))
        self._load_objects()
        self._load_messages()
        for table in ("jobs", "flow"):
            target = get_backend("dynamodb")["123456789012"]["us-east-1"].tables[table]
            for item in self.items(table):
                target.put_item(item)
        self.deployment = self.deployment.with_processors(*_processors(self))
        for role in self.names:
            job = self.deployment.job(self.ref(role))
            if job.state in (JobState.RUNNING, JobState.MERGING):
                self.deployment.store.runs.start(job)

    def read(self, name: str) -> Any:
        """Return a fixture; message IDs are those that this deployment's queue gave."""
        text = (STORED / self.version / f"{name}.json").read_text()
        for old, new in self._new.items():
            text = text.replace(old, new)
        return json.loads(text)

    def items(self, table: str) -> Iterator[dict[str, Any]]:
        for path in sorted((STORED / self.version).glob(f"{table}*.json")):
            yield from self.read(path.stem)

    def ref(self, role: str) -> JobRef:
        return JobRef(self.names[role]["tenant"], self.names[role]["job_id"])

    def task(self, role: str) -> RunTask:
        return RunTask(self.ref(role), self.names[role]["run"])

    def shard_tasks(self, role: str) -> list[ShardTask]:
        """The shards of a run; the one that its state machine had given out, as it had."""
        tasks = {each.shard.index: each for each in self.deployment.shard_tasks(self.task(role))}
        given = self.read("states").get(role)
        if given and "shard" in given:
            task = ShardTask.from_state(given)
            tasks[task.shard.index] = task
        return list(tasks.values())

    def finish(self, role: str) -> Any:
        """Let a job's run come to its end."""
        for shard in self.shard_tasks(role):
            task = shard
            for _ in range(100):
                outcome = self.deployment.process(task)
                if outcome.outcome == "done":
                    break
                self.deployment.clock.advance(seconds=outcome.seconds)
                task = replace(task, left=outcome.work.attempt, overtaken=outcome.overtaken)
        return self.deployment.merge(self.task(role))

    def execute(self, role: str, *, crashes: int = 0, of: str = "process") -> Execution:
        """Let a run go the way of its execution, which keeps the definition with which it began.

        The first calls of one function crash before they do anything.
        """
        execution = Execution(self, crashes, of)
        order = {"tenant": self.names[role]["tenant"], "job_id": self.names[role]["job_id"], "run": 1}
        execution.ended = execution.machine.run(self.read("states").get(role, order))
        return execution

    def change(self, table: str, pk: str, sk: str, **values: Any) -> None:
        """Change attributes of an item as it is stored; None removes one."""
        stored = get_backend("dynamodb")["123456789012"]["us-east-1"].tables[table]
        (item,) = (each for each in self.items(table) if (each["pk"]["S"], each["sk"]["S"]) == (pk, sk))
        stored.put_item({name: value for name, value in (item | values).items() if value is not None})

    def _load_objects(self) -> None:
        # Into the emulator itself: it is quick, and the objects keep the versions that the items name.
        s3 = get_backend("s3")["123456789012"]["aws"]
        for each in reversed(self.read("objects")):
            s3.put_object("data", each["key"], each["body"].encode())._version_id = each["version_id"]

    def _load_messages(self) -> None:
        sqs, url = boto3.client("sqs"), self.deployment.settings.failed_chunks_url
        for each in self.read("messages")["failed-chunks"]:
            sent = sqs.send_message(QueueUrl=url, MessageBody=each["body"])
            self._new[each["message_id"]] = sent["MessageId"]


class Execution:
    """An execution of the old definition, which calls the functions of today; their clock follows its waits."""

    def __init__(self, stored: Stored, crashes: int, of: str) -> None:
        self.calls: list[tuple[str, Any]] = []
        """The functions that were called, and what each answered; a crash answers nothing."""
        self.ended = ("", "", "")
        """The status, the error and its cause."""
        self._deployment, self._began = stored.deployment, stored.deployment.clock.now()
        self._crashes, self._of = crashes, of
        functions = {f"<workers{name}.Arn>": name for name in ("plan", "process", "merge", "conclude")}
        self.machine = Machine(stored.read("definition"), functions, self._call, [])

    def answers(self, function: str) -> list[Any]:
        """Return what a function has answered, in order."""
        return [answer for name, answer in self.calls if name == function and answer is not None]

    def _call(self, name: str, event: dict[str, Any], time: float) -> Any:
        clock = self._deployment.clock
        clock.time = max(clock.time, self._began + timedelta(seconds=time))
        if name == self._of and self._crashes > 0:
            self._crashes -= 1
            self.calls.append((name, None))
            raise FunctionFailed("Runtime.ExitError", "exited without an answer")
        # A state machine hands on JSON only.
        answer = json.loads(json.dumps(getattr(self, f"_{name}")(json.loads(json.dumps(event)))))
        self.calls.append((name, answer))
        return answer

    # The same as the functions in `lambdas/`, without their handlers.

    def _plan(self, event: dict[str, Any]) -> Any:
        planned = self._deployment.plan(RunTask.from_state(event))
        got = self._deployment.s3.get_object(Bucket=self._deployment.settings.data_bucket, Key=planned.plan_key)
        self.machine.items = [json.loads(line) for line in got["Body"].read().splitlines()]
        return asdict(planned)

    def _process(self, event: dict[str, Any]) -> Any:
        return self._deployment.process(ShardTask.from_state(event)).to_state()

    def _merge(self, event: dict[str, Any]) -> Any:
        return {"state": self._deployment.merge(RunTask.from_state(event)).state}

    def _conclude(self, event: dict[str, Any]) -> Any:
        store, error, cause = self._deployment.store, event["error"]["Error"], event["error"]["Cause"]
        if "shard" in event:
            conclude_shard(ShardTask.from_state(event), error, cause, jobs=store.jobs, shards=store.shards)
            return {"outcome": "died"}
        job = conclude_run(RunTask.from_state(event), cause_of(error, cause), jobs=store.jobs)
        return {"state": job.state} if job else {}


def _processors(stored: Stored) -> list[type[Processor]]:
    def ask(provider: str, record: str, ctx: Any) -> str:
        content: str = ctx.call(provider, Chat(messages=(Message("user", record),), max_tokens=20)).content
        return content

    class Plain(Processor):
        """Write every line in capitals, by way of a step."""

        name = "plain"
        reads = Lines()

        def process(self, record: str, ctx: Any) -> Any:
            if record in stored.trouble:
                raise stored.trouble[record]
            ctx.tally("asked")
            return ctx.step("upper", lambda: stored.done.append(record) or record.upper())

    class Large(Processor):
        """The same, with an answer that may be too large for an item."""

        name = "large"
        reads = Lines()

        def process(self, record: str, ctx: Any) -> Any:
            return ctx.step("large", lambda: stored.done.append(record) or record.upper())[: len(record)]

    class Summing(Processor):
        """Number the lines of a chunk, keeping the count in checkpoints."""

        name = "summing"
        reads = Lines()

        def process_chunk(self, records: Any, ctx: Any) -> Iterator[bytes]:
            number = ctx.state or 0
            for record in records:
                number += 1
                stored.done.append(record.value)
                ctx.tally("numbered")
                yield f"{number} {record.value}\n".encode()
                ctx.checkpoint(number)

    class Ask(Processor):
        """Ask for every line."""

        name = "ask"
        reads = Lines()

        def process(self, record: str, ctx: Any) -> str:
            return ask("acme", record, ctx)

    class AskSlow(Processor):
        """Ask a provider with a limit."""

        name = "ask-slow"
        reads = Lines()

        def process(self, record: str, ctx: Any) -> str:
            return ask("slow", record, ctx)

    return [Plain, Large, Summing, Ask, AskSlow]
