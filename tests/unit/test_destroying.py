"""Which stacks `backhaul destroy` deletes, what it asks, and what it does when CloudFormation cannot."""

import io
from dataclasses import dataclass, field, replace

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit
from backhaul.model.errors import DeploymentUnreachable, InvalidRequest, StoreRefused
from backhaul.operations.destroying import DESCRIPTION, MAX_DELETIONS, destroy, prepare
from backhaul.store.stacks import DeployedStack, StackResource

DEV = DeployedStack("arn:stack/Backhaul-dev/1", "Backhaul-dev", "UPDATE_COMPLETE", DESCRIPTION, is_protected=False)
PROD = replace(DEV, name="Backhaul-prod", is_protected=True)
DATA = StackResource("data", "AWS::S3::Bucket", "backhaul-dev-data", failed=False, reason="")
LOGS = replace(DATA, name="logs", identity="backhaul-dev-logs")
TABLE = StackResource("jobs", "AWS::DynamoDB::Table", "jobs", failed=False, reason="")


@dataclass
class Account:
    """CloudFormation and S3 as the rule meets them: no emulator refuses to delete a stack whose bucket is not empty."""

    stack: DeployedStack | None = DEV
    keeps: bool = False
    failures: list[tuple[StackResource, ...]] = field(default_factory=list)
    """What each deletion in turn cannot delete."""
    left: tuple[StackResource, ...] = (DATA, LOGS, TABLE)
    done: list[str] = field(default_factory=list)

    def find(self, name):
        return self.stack

    def keeps_data(self, stack):
        return self.keeps

    def resources(self, stack):
        return self.left

    def empty(self, bucket):
        self.done.append(f"empty {bucket}")
        yield from (1000, 7)

    def delete_bucket(self, bucket):
        self.done.append(f"delete {bucket}")

    def unprotect(self, stack):
        self.done.append("unprotect")

    def delete(self, stack):
        self.done.append("delete the stack")
        self.left = tuple(replace(each, failed=True) for each in self.failures.pop(0)) if self.failures else ()
        return not self.left


def destroyed(account):
    told = []
    destroy(prepare("Backhaul-dev", account), account, lambda *page: told.append(page))
    return told


def test_a_development_stack_is_deleted_after_its_buckets_were_emptied():
    account = Account()
    assert destroyed(account) == [(bucket, page) for bucket in (DATA.identity, LOGS.identity) for page in (1000, 7)]
    assert account.done == ["empty backhaul-dev-data", "empty backhaul-dev-logs", "delete the stack"]


@pytest.mark.parametrize("account", [Account(PROD), Account(replace(PROD, is_protected=False), keeps=True)])
def test_a_production_stack_is_left_alone_protected_or_not(account):
    with pytest.raises(InvalidRequest, match="Backhaul-prod is a production deployment, which keeps its data"):
        destroyed(account)
    assert account.done == []


@pytest.mark.parametrize("status", ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_a_production_stack_whose_first_deployment_failed_goes_with_its_named_bucket(status):
    account = Account(replace(PROD, status=status), keeps=True, left=(DATA,))
    destroyed(account)
    assert account.done == ["unprotect", "empty backhaul-dev-data", "delete backhaul-dev-data", "delete the stack"]


@pytest.mark.parametrize("status", ["CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"])
def test_a_stack_that_is_being_changed_is_left_alone(status):
    account = Account(replace(DEV, status=status))
    with pytest.raises(InvalidRequest, match=f"is {status}. Wait"):
        destroyed(account)
    assert account.done == []


def test_a_stack_of_somebody_else_is_left_alone():
    account = Account(replace(DEV, description="Our shop"))
    with pytest.raises(InvalidRequest, match="no deployment of Backhaul"):
        destroyed(account)
    assert account.done == []


def test_a_stack_that_is_not_there_is_said():
    with pytest.raises(DeploymentUnreachable, match="no stack 'Backhaul-dev'"):
        prepare("Backhaul-dev", Account(None))


def test_access_logs_that_arrive_after_a_bucket_was_emptied_are_deleted_too():
    account = Account(failures=[(LOGS,), (LOGS,)])
    destroyed(account)
    assert account.done[2:] == ["delete the stack", *["empty backhaul-dev-logs", "delete the stack"] * 2]


def test_what_cloudformation_cannot_delete_is_named_and_not_tried_for_ever():
    stuck = replace(TABLE, reason="Resource is in use")
    account = Account(failures=[(stuck,)])
    with pytest.raises(StoreRefused, match=r"jobs \(AWS::DynamoDB::Table\): Resource is in use\."):
        destroyed(account)
    account = Account(failures=[(LOGS,)] * 99)
    with pytest.raises(StoreRefused, match="logs"):
        destroyed(account)
    assert account.done.count("delete the stack") == MAX_DELETIONS


@pytest.mark.parametrize(("typed", "code"), [("Backhaul-dev\n", Exit.SUCCEEDED), ("yes\n", Exit.REFUSED)])
def test_the_command_asks_for_the_name(monkeypatch, capsys, typed, code):
    account = Account()
    monkeypatch.setattr("backhaul.cli.destroy.deployer", lambda: account)
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert run(["destroy", "Backhaul-dev"]) == code
    said = capsys.readouterr().err
    assert "every object in the bucket backhaul-dev-data" in said
    assert bool(account.done) is (code is Exit.SUCCEEDED)
    assert ("Deleted Backhaul-dev and 2,014 objects." in said) is (code is Exit.SUCCEEDED)
