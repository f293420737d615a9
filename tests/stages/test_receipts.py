"""Real receipts keep to their published form, and the form describes every field."""

from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from backhaul import Lines, Processor
from backhaul.model.policy import Policy
from backhaul.model.task import RunTask
from tests.receipts import SCHEMA, VALIDATOR
from tests.stages.test_announce import objects_described

DATA = b"good\nbad!\n"


class Choosy(Processor):
    """Raise for what is bad."""

    name = "choosy"
    reads = Lines()

    def process(self, record, ctx):
        ctx.tally("lines")
        if record.startswith("bad"):
            raise ValueError(record)
        return record.upper()


def stored(deployment: Any, job: Any) -> dict[str, Any]:
    """The receipt as its owner downloads it."""
    document: dict[str, Any] = msgspec.json.decode(deployment.read(job.receipt))
    return document


@pytest.fixture
def choosy(deployment):
    return deployment.with_processors(Choosy)


def test_the_form_is_a_valid_schema_that_describes_every_field_and_knows_no_others():
    Draft202012Validator.check_schema(SCHEMA)
    found = [each for each in objects_described(SCHEMA) if "additionalProperties" in each]
    assert {id(SCHEMA), *(id(each) for each in SCHEMA["$defs"].values() if "properties" in each)} == set(map(id, found))
    for each in found:
        assert each["additionalProperties"] is False
        assert each["required"] == list(each["properties"])
        assert all(field.get("description") for field in each["properties"].values())


@pytest.mark.parametrize(
    ("data", "policy", "state"),
    [
        (b"good\nfine\n", Policy(), "SUCCEEDED"),
        (DATA, Policy(), "PARTIAL"),
        (DATA, Policy(tolerate=0), "FAILED"),
        (b"bad!\n", Policy(), "FAILED"),
        (b"good\0\n", Policy(), "FAILED"),
    ],
)
def test_the_receipt_of_a_run_that_came_to_its_end_keeps_to_the_form(choosy, data, policy, state):
    job = choosy.run("choosy", data, options={"chunk_bytes": 5}, policy=policy)
    receipt = stored(choosy, job)
    VALIDATOR.validate(receipt)
    assert receipt["state"] == state


def test_the_receipt_of_a_cancelled_run_keeps_to_the_form(choosy):
    task = choosy.start("choosy", DATA, options={"chunk_bytes": 5})
    choosy.plan(task)
    choosy.cancel(task.job)
    receipt = stored(choosy, choosy.merge(task))
    VALIDATOR.validate(receipt)
    assert (receipt["state"], len(receipt["missing"])) == ("CANCELLED", 2)


def test_the_receipt_of_a_redriven_run_keeps_to_the_form(choosy):
    job = choosy.run("choosy", DATA, options={"chunk_bytes": 5})
    redriven = choosy.redrive(job.ref)
    receipt = stored(choosy, choosy.finish(RunTask(job.ref, redriven.job.run)))
    VALIDATOR.validate(receipt)
    assert (receipt["state"], receipt["run"], receipt["missing"][0]["run"]) == ("PARTIAL", 2, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"state": "RUNNING"},
        {"state": "SUCCEEDED"},
        {"output": None},
        {"missing": []},
        {"missing": [{"index": 0}]},
        {"cause": None},
        {"run": 0},
        {"merged_at": "yesterday"},
        {"seconds": -1},
        {"surprise": 1},
    ],
    ids=str,
)
def test_the_form_refuses_what_is_no_receipt(choosy, change):
    receipt = stored(choosy, choosy.run("choosy", DATA, options={"chunk_bytes": 5}))
    assert receipt["state"] == "PARTIAL"
    assert not VALIDATOR.is_valid(receipt | change)
