"""A real deployment on a local cloud: what a case may do to it, and what its stores hold in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import psutil

from backhaul.client.client import Backhaul
from backhaul.local.connection import Connection
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from backhaul.local.keeper import OWNER
from backhaul.model.api import JobView
from backhaul.toolchain import PROJECT
from prove.history import Final
from prove.requests import plain_item

T = TypeVar("T")
PROCESSORS = Path(__file__).parent / "processors"
"""The processors that the cases run: slow ones, and such as fail in every way there is."""
PATIENCE_SECONDS = 120.0


class Unanswered(Exception):
    """What a case waited for did not happen."""


def eventually(ask: Callable[[], T], enough: Callable[[T], Any] = bool, seconds: float = PATIENCE_SECONDS) -> T:
    """Ask until the answer is enough, and return it; raises `Unanswered`."""
    until = time.monotonic() + seconds
    while not enough(answer := ask()):
        if time.monotonic() >= until:
            raise Unanswered(f"still {answer!r:.300} after {seconds:g} s")
        time.sleep(0.1)
    return answer


@dataclass
class Deployed:
    """One deployment, its owner's client, and the powers of root."""

    connection: Connection
    client: Backhaul
    home: Path
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    """Every dead letter that was seen; they are taken out of the queue."""
    _clients: dict[str, Any] = field(default_factory=dict)

    def admin(self, service: str) -> Any:
        """Return a boto3 client of the account's root user."""
        if service not in self._clients:
            root = self.connection.as_root()
            session: Any = root.session
            self._clients[service] = session.client(service, **root.options)
        return self._clients[service]

    @property
    def tenant(self) -> str:
        """Who the client's jobs belong to."""
        access = self.connection.access()
        identity = access.session.client("sts", **access.options).get_caller_identity()
        return str(identity["UserId"]).partition(":")[0]

    # Jobs.

    def submit(
        self,
        data: bytes,
        processor: str,
        options: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
        *,
        client: Backhaul | None = None,
    ) -> str:
        """Submit these bytes as a file and return the job's ID."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "input.txt"
            path.write_bytes(data)
            return (client or self.client).submit(path, processor, options, policy=policy).job_id

    def ended(self, job_id: str, *, run: int = 1, seconds: float = PATIENCE_SECONDS) -> JobView:
        """Wait for the end of a job's run and return the job."""
        return eventually(
            lambda: self.client.job(job_id), lambda job: job.state.is_terminal and job.run == run, seconds
        )

    def final(self, job_id: str, tenant: str | None = None) -> Final:
        """Return what the stores hold of a job."""
        tenant = tenant or self.tenant
        outputs = self.connection.outputs
        items = {(outputs["JobsTableName"], each["pk"], each["sk"]): each for each in self.items(job_id, tenant)}
        slots = self._table("FlowTableName", "SLOTS")
        items |= {(outputs["FlowTableName"], each["pk"], each["sk"]): each for each in slots}
        self.collect_dead_letters()
        bodies = tuple(json.dumps(each) for each in self.dead_letters if each["job_id"] == job_id)
        return Final(
            items, dict(self._objects(f"t/{tenant}/j/{job_id}/")), (), {"dead_letters": bodies}, self._runs(job_id)
        )

    def items(self, job_id: str, tenant: str | None = None) -> list[dict[str, Any]]:
        """Return every item of a job as plain values."""
        return self._table("JobsTableName", f"T#{tenant or self.tenant}#J#{job_id}")

    def shards(self, job_id: str) -> list[dict[str, Any]]:
        """Return the records of a job's shards."""
        return [each for each in self.items(job_id) if each["sk"].startswith("SHARD#")]

    def collect_dead_letters(self) -> None:
        """Take what lies in the queue of failed chunks."""
        self.dead_letters += [json.loads(body) for body in self.receive("FailedChunksUrl")]

    def receive(self, queue: str) -> list[str]:
        """Take what lies in a queue, which is named by its output of the stack."""
        sqs, url, found = self.admin("sqs"), self.connection.outputs[queue], []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for each in messages:
                found.append(each["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return found

    def _table(self, output: str, pk: str) -> list[dict[str, Any]]:
        pages = (
            self.admin("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=self.connection.outputs[output],
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": pk}},
                ConsistentRead=True,
            )
        )
        return [plain_item(item) for page in pages for item in page["Items"]]

    def _objects(self, prefix: str) -> Iterator[tuple[tuple[str, str], bytes]]:
        s3, bucket = self.admin("s3"), self.connection.outputs["DataBucketName"]
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Versions", []):
                found = s3.get_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
                yield (each["Key"], each["VersionId"]), found["Body"].read()

    def _runs(self, job_id: str) -> dict[str, str]:
        machine = self.connection.outputs["StateMachineArn"]
        pages = self.admin("stepfunctions").get_paginator("list_executions").paginate(stateMachineArn=machine)
        runs = [run for page in pages for run in page["executions"] if run["name"].startswith(job_id)]
        return {run["name"]: run["status"] for run in runs}

    # Functions.

    def function(self, part: str) -> str:
        """Return the name of the one function with `part` in its name."""
        pages = self.admin("lambda").get_paginator("list_functions").paginate()
        names = [each["FunctionName"] for page in pages for each in page["Functions"]]
        (name,) = (each for each in names if part in each.lower())
        return str(name)

    def change(self, part: str, **settings: Any) -> dict[str, Any]:
        """Change a function's configuration and return what it was."""
        name = self.function(part)
        was = self.admin("lambda").get_function_configuration(FunctionName=name)
        self.admin("lambda").update_function_configuration(FunctionName=name, **settings)
        return {key: was[key] for key in settings}

    def invoke(self, part: str, event: Any) -> dict[str, Any]:
        """Call a function as the state machine or an event source would; returns its answer."""
        answer = self.admin("lambda").invoke(FunctionName=self.function(part), Payload=json.dumps(event).encode())
        return {"error": answer.get("FunctionError"), "answer": json.loads(answer["Payload"].read() or b"null")}

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run the command line, as an operator of this deployment; returns its exit code and what it said."""
        run = [sys.executable, "-c", "import sys; from backhaul.cli import main; sys.exit(main())", *arguments]
        own = {"PATH": os.defpath, "HOME": str(self.home), "BACKHAUL_HOME": str(self.home)}
        done = subprocess.run(run, cwd=PROJECT, env=own, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def logged(self, since: float) -> list[str]:
        """Return what the functions have logged since that time, in order."""
        logs = self.admin("logs")
        groups = [
            each["logGroupName"]
            for page in logs.get_paginator("describe_log_groups").paginate()
            for each in page["logGroups"]
        ]
        events = [
            event
            for group in groups
            for page in logs.get_paginator("filter_log_events").paginate(
                logGroupName=group, startTime=int(since * 1000)
            )
            for event in page["events"]
        ]
        return [each["message"] for each in sorted(events, key=itemgetter("timestamp"))]

    def logged_errors(self, since: float, last: int = 10) -> list[str]:
        """Return the last errors of them."""
        errors = [each for each in self.logged(since) if '"level":"ERROR"' in each or "Traceback" in each]
        return [each[:1500] for each in errors[-last:]]

    def workers(self, part: str = "workersprocess") -> list[psutil.Process]:
        """Return the processes of the functions with `part` in their names."""
        found = []
        for process in Emulator(Folder(self.home)).processes():
            if part in process.info["environ"].get("AWS_LAMBDA_FUNCTION_NAME", "").lower():
                found.append(process)
        return found

    def kill(self, pid: int) -> bool:
        """Kill a process of this cloud; returns whether it lived."""
        return self._signal(pid, signal.SIGKILL)

    def stop(self, pid: int) -> bool:
        """Stop a process of this cloud in its tracks."""
        return self._signal(pid, signal.SIGSTOP)

    def go_on(self, pid: int) -> bool:
        """Let a stopped process of this cloud go on."""
        return self._signal(pid, signal.SIGCONT)

    def _signal(self, pid: int, number: signal.Signals) -> bool:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            process = psutil.Process(pid)
            if process.environ().get(OWNER) != str(self.home.resolve()):
                raise PermissionError(f"process {pid} is none of this cloud's")
            os.kill(pid, number)
            return True
        return False
