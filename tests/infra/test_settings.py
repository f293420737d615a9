"""What a deployment may be told."""

from pathlib import Path

import pytest

from backhaul.model.settings import Settings
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
    for name in ("max_running_jobs", "max_running_jobs_per_tenant"):
        assert getattr(settings(), name) == getattr(Settings(), name)


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
