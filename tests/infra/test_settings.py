"""What a deployment may be told."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from backhaul.model.settings import Settings
from backhaul.toolchain import PROJECT
from scripts.deploy import written
from stacks.stage import DeploymentSettings, InvalidContext


def settings(**context: object) -> DeploymentSettings:
    return DeploymentSettings.from_context(context.get)


def test_without_context_it_is_a_development_stage():
    assert settings() == DeploymentSettings()
    assert settings().stack_name == "Backhaul-dev"


def test_values_of_the_command_line_and_of_cdk_json_mean_the_same():
    assert settings(retention_days="7", cors_origins="https://a.example,https://b.example") == settings(
        retention_days=7, cors_origins=["https://a.example", "https://b.example"]
    )
    assert settings(alarm_emails="a@ops.example,b@ops.example").alarm_emails == ("a@ops.example", "b@ops.example")


def test_only_production_keeps_data():
    assert {stage: settings(stage=stage).keeps_data for stage in ("dev", "prod", "local")} == {
        "dev": False,
        "prod": True,
        "local": False,
    }


def test_a_chosen_concurrency_holds_in_every_stage():
    assert settings(stage="local").workers == 4
    assert settings(stage="prod").workers == 100
    assert settings(stage="local", max_concurrency=7).workers == 7


def test_the_limits_of_a_deployment_that_names_none_are_those_of_the_functions():
    assert settings().running_jobs == Settings().max_running_jobs
    assert settings().max_running_jobs_per_tenant == Settings().max_running_jobs_per_tenant


@pytest.mark.parametrize("quota", [10, 50, 100, 400, 999])
def test_in_a_small_account_all_workers_together_leave_room_for_the_api(quota: int):
    small = settings(account_concurrency=quota)
    assert small.workers >= 2
    assert small.running_jobs >= 2
    assert small.running_jobs * small.workers <= quota - max(5, quota // 5)
    assert small.dispatchers == 2


def test_a_usual_account_and_one_that_nobody_knows_have_the_usual_limits():
    for usual in (settings(), settings(account_concurrency=1000)):
        assert (usual.running_jobs, usual.workers, usual.dispatchers) == (100, 100, None)


def test_a_limit_that_is_named_holds_in_a_small_account_and_the_other_follows():
    assert settings(account_concurrency=50, max_running_jobs=20).workers == 2
    assert settings(account_concurrency=50, max_concurrency=16).running_jobs == 2
    both = settings(account_concurrency=10, max_running_jobs=50, max_concurrency=60)
    assert (both.running_jobs, both.workers) == (50, 60)


def test_workers_with_places_of_their_own_need_no_smaller_limits():
    reserved = settings(account_concurrency=400, reserved_workers=300)
    assert (reserved.running_jobs, reserved.workers, reserved.dispatchers) == (100, 100, None)


def test_the_local_cloud_has_no_quota():
    local = settings(stage="local", account_concurrency=10)
    assert (local.running_jobs, local.workers, local.dispatchers) == (100, 4, None)


@pytest.mark.parametrize(("quota", "reserved"), [(10, 1), (100, 1), (400, 301)])
def test_places_that_lambda_would_not_reserve_are_refused_before_it_is_asked(quota: int, reserved: int):
    with pytest.raises(InvalidContext, match=r"Context reserved_workers.*keeps 100.*L-B99A9384"):
        settings(account_concurrency=quota, reserved_workers=reserved)


@pytest.mark.parametrize("name", [item.name for item in fields(DeploymentSettings)])
def test_a_setting_with_nothing_after_the_sign_is_the_default(name: str):
    assert settings(**{name: ""}) == DeploymentSettings()


def test_what_is_remembered_is_json_and_names_every_setting_that_is_no_part_of_the_stacks_name():
    remembered = settings(alarm_emails="a@ops.example,b@ops.example", retention_days=90).remembered()
    assert json.loads(json.dumps(remembered)) == remembered
    assert remembered["alarm_emails"] == ["a@ops.example", "b@ops.example"]
    assert remembered["retention_days"] == 90
    assert {"name", "stage", *remembered} == {item.name for item in fields(DeploymentSettings)}


def test_alarms_that_nobody_hears_are_a_mistake_except_on_the_local_cloud():
    assert settings(stage="dev").tells_nobody
    assert settings(stage="prod").tells_nobody
    assert not settings(stage="prod", alarm_emails="ops@example.com").tells_nobody
    assert not settings(stage="local").tells_nobody


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stage", "production"),
        ("name", "has space"),
        ("name", "a" * 25),
        ("max_upload_bytes", "5GB"),
        ("max_upload_bytes", 5 * 1024**3 + 1),
        ("upload_window_seconds", "0"),
        ("upload_window_seconds", "²"),
        ("retention_days", "-1"),
        ("retention_days", 1),
        ("max_concurrency", 10_001),
        ("max_running_jobs", 0),
        ("max_running_jobs", 1001),
        ("max_running_jobs_per_tenant", "many"),
        ("max_running_jobs_per_tenant", 1001),
        ("reserved_workers", 0),
        ("account_concurrency", 0),
        ("account_concurrency", "few"),
        ("api_requests_per_second", 0),
        ("api_requests_per_second", 10_001),
        ("api_burst", "fast"),
        ("api_burst", 5001),
        ("worker_timeout_seconds", 9),
        ("worker_timeout_seconds", 901),
        ("alarm_emails", "ops"),
        ("alarm_emails", "ops@example.com,"),
        ("alarm_emails", "ops@example.com, dev@example.com"),
        ("alarm_emails", ["ops@localhost"]),
        ("cors_origins", "https://a.example/path"),
        ("cors_origins", ["a.example"]),
        ("processors", "/no/such/folder"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: object):
    with pytest.raises(InvalidContext, match=rf"Context {name}"):
        settings(**{name: value})


def test_a_folder_of_processors_may_be_named(tmp_path: Path):
    assert settings(processors=str(tmp_path)).processors == tmp_path


def test_what_is_remembered_comes_back_when_it_is_written_as_a_setting_again(tmp_path: Path):
    told = settings(bedrock_models="a.b,c.d", max_cost_per_day="2.50", processors=str(tmp_path), reserved_workers=7)
    again = {name: written(value) for name, value in told.remembered().items()}
    assert settings(**again) == told


PAGE = (PROJECT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("name", [item.name for item in fields(DeploymentSettings)])
def test_every_setting_is_on_the_operators_page(name: str):
    assert f"\n| `{name}` |" in PAGE


@pytest.mark.parametrize("quota", [10, 50, 100, 500])
def test_the_operators_page_says_what_a_small_account_gets(quota: int):
    small = settings(account_concurrency=quota)
    left = quota - small.running_jobs * small.workers
    assert f"| {quota} | {small.running_jobs} | {small.workers} | {left} |" in PAGE
