"""What a small account has room for, and how the doctor tells of one that is too small."""

from __future__ import annotations

import boto3
import pytest

from backhaul.model.clock import SystemClock
from backhaul.model.settings import Settings
from backhaul.operations import lambda_quota
from backhaul.operations.connection import LOCAL_CLOUD, Operations, Outputs
from backhaul.operations.doctor import Finding, SurveyScope
from backhaul.operations.doctor.surroundings import small_quota
from backhaul.operations.doctor.survey import Survey
from backhaul.store import Store

LIMITS = {"MaxRunningJobs": "100", "MaxWorkersPerJob": "100", "ReservedWorkers": "0"}


@pytest.fixture
def examined(server, answer, monkeypatch):
    """Returns what the doctor finds, and skips, in an account with this quota."""

    def examine(quota: int, stack: str = "The stack 's'", **limits: str) -> tuple[list[Finding], list[str]]:
        account = {"AccountLimit": {"ConcurrentExecutions": quota}, "AccountUsage": {}}
        server.on("GET", "/2016-08-19/account-settings", answer.of(account))

        def client(service, **options):
            session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
            return session.client(service, endpoint_url=server.url, **options)

        outputs = Outputs(stack, limits)
        survey = Survey(
            Operations(outputs, Settings(), Store(Settings(), client=client), SystemClock(), "me"), SurveyScope()
        )
        return list(small_quota(survey)), survey.skipped

    return examine


@pytest.mark.parametrize("quota", [10, 50, 999])
def test_an_account_whose_functions_all_may_be_workers_is_found_with_the_quotas_code(examined, quota):
    (found,), skipped = examined(quota, **LIMITS)
    assert f"runs {quota} functions at a time (Lambda's quota L-B99A9384)" in found.what
    assert "100 jobs with 100 workers each" in found.what
    assert f"-c account_concurrency={quota}" in found.mends_by
    assert not skipped


def test_the_limits_that_follow_from_a_quota_are_not_too_large_for_it(examined):
    for quota in (10, 50, 100, 999):
        workers = lambda_quota.workers_of_a_job(quota, None)
        jobs = lambda_quota.jobs_at_a_time(quota, workers)
        limits = {"MaxRunningJobs": str(jobs), "MaxWorkersPerJob": str(workers), "ReservedWorkers": "0"}
        assert examined(quota, **limits) == ([], [])


def test_a_usual_quota_and_workers_with_places_of_their_own_are_in_order(examined):
    assert examined(1000, **LIMITS) == ([], [])
    assert examined(400, **LIMITS | {"ReservedWorkers": "300"}) == ([], [])


def test_a_local_cloud_and_an_older_stack_are_skipped(examined):
    assert examined(10, LOCAL_CLOUD, **LIMITS) == ([], ["small-quota: does not apply to a local cloud"])
    assert examined(10) == ([], ["small-quota: the stack has no output MaxRunningJobs; deploy it again"])
