"""One simulated deployment: the real stages over moto, and models of everything that moves between them."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random
from typing import Any
from urllib.parse import quote_plus

from moto.backends import get_backend

from backhaul.model.job import JobRef
from backhaul.model.settings import Settings
from backhaul.plugin.registry import Registry
from prove.faults import Fault
from prove.functions import FunctionFailed, Functions
from prove.handlers import HANDLERS
from prove.history import Call, Final, History
from prove.messages import Bus, Intake, Stream, is_for_sleepers
from prove.network import Network, Refused
from prove.orchestrator import Orchestrator
from prove.scheduler import Actor, Killed, Simulation
from prove.tables import ACCOUNT, Tables
from prove.vendor import Vendor
from prove.work import PROCESSORS

BUCKET, TABLE, FLOW = "data", "jobs", "flow"
TENANT = "AIDAEXAMPLE"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:runs"
_TERMINAL = frozenset({"SUCCEEDED", "PARTIAL", "PAUSED", "FAILED", "CANCELLED", "EXPIRED"})


class World:
    """Everything that one simulation consists of; `prove.simulation.simulated` makes it."""

    def __init__(self, seed: int, *, stale: bool = False, **settings: Any) -> None:
        self.simulation = Simulation(seed)
        self.history = History()
        self.tables = Tables(remembers=stale)
        self.network = Network(self.simulation, self.history, self.tables)
        known = Settings.__dataclass_fields__
        wanted = {
            "data_bucket": BUCKET,
            "jobs_table": TABLE,
            "event_bus": "bus",
            "state_machine_arn": MACHINE,
            "flow_table": FLOW,
            "failed_chunks_url": "https://sqs.us-east-1.amazonaws.com/123456789012/failed-chunks",
        }
        self.settings = Settings(**({name: each for name, each in wanted.items() if name in known} | settings))
        self.processors: dict[str, Any] = dict(PROCESSORS)
        self.registry = Registry(self.processors)
        self.functions = Functions(self, dict(HANDLERS))
        self.runs = Orchestrator(self)
        self.intake = Intake(self)
        self.stream = Stream(self)
        self.sleepers = Stream(self, "wake", is_for_sleepers)
        self.bus = Bus(self)
        self.vendor = Vendor(self, self.functions)
        self.dead_letters: list[str] = []
        self.s3: Any = None
        """A client of S3 that is nobody's: what uploads files."""
        self.tokens: Random
        self.inputs: dict[str, bytes] = {}
        """Job ID, to the file that was uploaded for it first."""
        self._computing: list[Fault] = []
        self.runs.ended_badly = self.bus.run_ended_badly
        self.network.models = {"sfn": self.runs.answer, "eventbridge": self.bus.answer, "sqs": self._queue}
        self.bus.job_ended = self._hand_on
        self.network.written += [self.stream.note, self.sleepers.note]

    def inject(self, *faults: Fault) -> None:
        """Let these faults happen from now on."""
        self.network.faults += [each for each in faults if each.code != "compute"]
        self._computing += [each for each in faults if each.code == "compute"]

    def computing(self, actor: Actor, record: str) -> None:
        """Let the faults in the middle of a computation happen to whoever works on this record."""
        call = Call(0, 0.0, actor.name, actor.name.partition("#")[0], "", "record", "compute", record, {})
        for fault in self._computing:
            if not fault.strikes(call, self.simulation.random.random):
                continue
            self.network.note(f"{fault.kind} while it works on {record[:12]}")
            if fault.kind.startswith("pause"):
                actor.context.outlives = fault.zombie
                self.simulation.freeze(fault.seconds)
            elif fault.kind == "out of memory":
                raise MemoryError
            else:
                self.simulation.kill(actor)
                raise Killed

    # What clients do.

    def submit(self, data: bytes, *, processor: str = "mark", upload: bool = True, **request: Any) -> JobRef:
        """Submit a job and upload its file, with no fault in between; return which job it is."""
        found: list[JobRef] = []
        options = {"chunk_bytes": 66} | request.pop("options", {})
        wanted = {"processor": processor, "file_name": "file.txt", "size": len(data), "options": options}
        tenant = request.pop("tenant", TENANT)

        def client() -> None:
            found.append(self.functions.call("submit", {"request": wanted | request, "tenant": tenant}))

        actor = self.simulation.spawn("client", client)
        self.simulation.run(lambda: actor.ended, longest=self.simulation.time + 60)
        if actor.error is not None:
            raise actor.error
        (job,) = found
        self.inputs[job.job_id] = data
        if upload:
            self.upload(job, data)
        return job

    def upload(self, job: JobRef, data: bytes, *, notify: bool = True) -> str:
        """Upload a file for the job; S3 tells the queue. Return the notification."""
        key = f"t/{job.tenant}/j/{job.job_id}/input/data"
        version = self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)["VersionId"]
        body = notification(key, len(data), version)
        if notify:
            self.intake.send(body)
        return body

    def act(self, name: str, event: dict[str, Any], *, delay: float = 0.0) -> Actor:
        """Let a client or a person call a function after a while; the actor holds the answer or the error."""
        return self.simulation.spawn("client", lambda: self.functions.call(name, event), delay=delay)

    def delete(self, key: str, version: str) -> None:
        """Remove one version of an object for good."""
        self.s3.delete_object(Bucket=BUCKET, Key=key, VersionId=version)

    # How it goes on and ends.

    def run(self, *, longest: float = 6 * 3600.0, sweeps: int = 1) -> bool:
        """Go on until every job has ended, every event is out and the sweep came by; return whether that came to be."""
        settled = self.simulation.run(self.is_settled, longest=self.simulation.time + longest)
        self.simulation.run(lambda: False, longest=self.simulation.time + sweeps * 60.0 + 5.0)
        return settled and self.simulation.run(self.is_settled, longest=self.simulation.time + longest)

    def is_settled(self) -> bool:
        """Whether all jobs have ended, all runs and events with them, and their slots are free."""
        return (
            self.stream.is_read
            and all(run.status != "RUNNING" for run in self.runs.executions.values())
            and all(item["state"] in _TERMINAL for item in self.tables.jobs())
            and not self.tables.slots()
        )

    def job(self, ref: JobRef) -> dict[str, Any]:
        """Return a job's item as plain values."""
        item = self.tables.read((TABLE, f"T#{ref.tenant}#J#{ref.job_id}", "JOB"))
        if item is None:
            raise LookupError(f"job {ref.job_id} has no item")
        return item

    def read(self, key: str) -> bytes:
        """Return the present version of an object, past the network."""
        found: Any = get_backend("s3")[ACCOUNT]["aws"].get_object(BUCKET, key)
        body: bytes = found.value
        return body

    def final(self) -> Final:
        """Return what the stores hold."""
        bucket = get_backend("s3")[ACCOUNT]["aws"].buckets[BUCKET]
        objects = {
            (key.name, str(key.version_id)): key.value
            for keys in (bucket.keys.getlist(name) for name in list(bucket.keys))
            for key in keys
            if hasattr(key, "value")
        }
        return Final(
            items=self.tables.all(),
            objects=objects,
            uploads=tuple(upload.key_name for upload in bucket.multiparts.values()),
            queues={
                "intake-dead": tuple(each.body for each in self.intake.dead),
                "dead_letters": tuple(self.dead_letters),
            },
            runs={name: run.status for name, run in self.runs.executions.items()},
        )

    def _hand_on(self, detail: dict[str, Any]) -> None:
        event = {"source": "backhaul", "detail": detail}
        self.simulation.spawn(
            "rule", lambda: self._try("dispatch", event), delay=self.simulation.random.uniform(0.1, 3)
        )

    def _try(self, name: str, event: dict[str, Any]) -> None:
        with suppress(FunctionFailed):
            self.functions.call(name, event)

    def _queue(self, call: Call) -> dict[str, Any]:
        if call.operation == "SendMessage":
            self.dead_letters.append(call.request["MessageBody"])
            return {"MessageId": f"message-{len(self.dead_letters)}"}
        if call.operation == "SendMessageBatch":
            entries = call.request["Entries"]
            self.dead_letters += [each["MessageBody"] for each in entries]
            return {"Successful": [{"Id": each["Id"], "MessageId": each["Id"]} for each in entries], "Failed": []}
        raise Refused("UnsupportedOperation")


def notification(key: str, size: int, version: str) -> str:
    """Return what S3 writes into the queue when an object was created."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Post",
        "s3": {
            "bucket": {"name": BUCKET},
            "object": {"key": quote_plus(key, safe="/"), "size": size, "versionId": version},
        },
    }
    return json.dumps({"Records": [record]})
