"""The settings of a deployment, from CDK context: `cdk deploy -c stage=prod -c retention_days=90`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs

from backhaul.model.errors import InvalidRequest
from backhaul.model.money import nanodollars
from backhaul.model.waits import MAX_UNWOKEN
from backhaul.operations import lambda_quota

GIB = 1024**3
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,23}")
_ORIGIN = re.compile(r"https?://[^\s/*]+|\*")
_MODEL = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)?\.[A-Za-z0-9_.:-]+")
_EMAIL = re.compile(r"[^\s@,]+@[^\s@,]+\.[^\s@,.]+")


class InvalidContext(Exception):
    """A context value is invalid; the message names the setting and the values that it takes."""


@dataclass(frozen=True)
class DeploymentSettings:
    """One deployment. `dev` is deleted with its data, `prod` keeps its data, `local` runs on the local cloud.

    All differences between the three are in this class.
    """

    stage: Literal["dev", "prod", "local"] = "dev"
    name: str = "Backhaul"
    """First part of the stack's name. Another name makes a second deployment in the same account."""
    max_upload_bytes: int = 5 * GIB
    upload_window_seconds: int = 3600
    retention_days: int = 30
    """Days for which a job, its files and its access logs are kept."""
    max_concurrency: int | None = None
    """The most workers of one job at a time."""
    max_running_jobs: int | None = None
    """The most jobs that run at a time; the others wait in the queue. 100 by default."""
    max_running_jobs_per_tenant: int = 20
    """The most jobs of one tenant that run at a time."""
    reserved_workers: int | None = None
    """The most workers of all jobs at a time, as reserved concurrency, which the account keeps free for them. By
    default they share the account's concurrency with all its other functions."""
    account_concurrency: int | None = None
    """The most function calls that the account runs at a time in this region; `make deploy` asks Lambda. If there are
    fewer than usual, `max_concurrency` and `max_running_jobs` follow from it, unless they are set."""
    api_requests_per_second: int = 100
    """Requests per second that the API takes from all callers together; it answers further ones with 429."""
    api_burst: int = 200
    """Requests that the API takes at once after a time without requests."""
    worker_timeout_seconds: int = 300
    """Seconds that one call of a worker may last. A worker that hangs holds its shard for that long."""
    max_cost_per_day: str = ""
    """US dollars that all calls of providers may cost per day (UTC); without a limit by default."""
    max_cost_per_day_per_tenant: str = ""
    """US dollars that the calls of each tenant may cost per day (UTC); without a limit by default."""
    bedrock_models: tuple[str, ...] = ()
    """IDs of the models or inference profiles of Amazon Bedrock that workers may call; none by default."""
    alarm_emails: tuple[str, ...] = ()
    """Mail addresses that get alarms; AWS asks each to confirm the subscription."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may call the API and upload files; none by default."""
    processors: Path = field(default=Path("processors"))
    """Folder of the user's own processors; it need not exist."""

    @classmethod
    def from_context(cls, read: Callable[[str], Any]) -> DeploymentSettings:
        """Read every setting by its name; raises `InvalidContext`."""
        given = {item.name: read(item.name) for item in fields(cls)}
        # `-c NAME=` with an empty value asks for the default.
        named = {name: value for name, value in given.items() if value not in (None, "")}
        settings = cls(**{name: _CHECKS[name](name, value) for name, value in named.items()})
        settings._check_reservation()
        return settings

    def remembered(self) -> dict[str, Any]:
        """Return the settings that the stack's template keeps: all but name and stage, which the stack's name has."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("name", "stage")}
        return {name: _plain(value) for name, value in values.items()}

    def _check_reservation(self) -> None:
        quota, reserved = self.account_concurrency, self.reserved_workers
        if quota is not None and reserved is not None and reserved > quota - lambda_quota.UNRESERVED:
            raise InvalidContext(
                f"Context reserved_workers={reserved}: the account runs {quota:,} functions at a time, and Lambda "
                f"keeps {lambda_quota.UNRESERVED} of them for functions without a reservation. Leave it out, or have "
                f"AWS raise the quota {lambda_quota.QUOTA_CODE}."
            )

    @property
    def stack_name(self) -> str:
        """Name of the stack."""
        return f"{self.name}-{self.stage}"

    @property
    def keeps_data(self) -> bool:
        """Whether data outlives the stack, and the stack cannot be deleted by mistake."""
        return self.stage == "prod"

    @property
    def removal_policy(self) -> RemovalPolicy:
        """What happens to data and logs when their stack is deleted.

        Production keeps them, unless the deployment that creates them fails: they are empty then, and would block the
        next try.
        """
        return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if self.keeps_data else RemovalPolicy.DESTROY

    @property
    def log_retention(self) -> logs.RetentionDays:
        """The retention of logs."""
        return logs.RetentionDays.THREE_MONTHS if self.keeps_data else logs.RetentionDays.ONE_WEEK

    @property
    def workers(self) -> int:
        """The most Map children at a time; four on the local cloud, which runs each in a process of one machine."""
        if self.max_concurrency:
            return self.max_concurrency
        if (quota := self._shared_quota) is not None:
            return lambda_quota.workers_of_a_job(quota, self.max_running_jobs)
        return 4 if self.stage == "local" else 100

    @property
    def running_jobs(self) -> int:
        """The most jobs that run at a time."""
        if self.max_running_jobs:
            return self.max_running_jobs
        if (quota := self._shared_quota) is not None:
            return lambda_quota.jobs_at_a_time(quota, self.workers)
        return 100

    @property
    def dispatchers(self) -> int | None:
        """The most calls of `dispatch` at a time, if the account's quota is so small that uploads could use it up."""
        return None if self._shared_quota is None else 2  # the smallest number that Lambda takes

    @property
    def _shared_quota(self) -> int | None:
        """The account's quota of concurrency if it is small and workers have no reserved part of it."""
        quota = self.account_concurrency
        shared = quota is not None and lambda_quota.is_small(quota) and not self.reserved_workers
        return quota if shared and self.stage != "local" else None

    @property
    def tells_nobody(self) -> bool:
        """Whether alarms reach nobody by mistake. The local cloud sends no mail, so there it is none."""
        return not self.alarm_emails and self.stage != "local"

    @property
    def local_providers(self) -> bool:
        """Whether a provider may be on this machine or in its private network; functions on AWS have none there."""
        return self.stage == "local"

    @property
    def runs_on_host(self) -> bool:
        """Whether functions run on this machine's Python, as on the local cloud, and need wheels for it."""
        return self.stage == "local"

    @property
    def longest_plain_wait(self) -> int:
        """Seconds of a shard's longest wait that nobody can end. A parked one has no time-out on the local cloud, where
        the sweep ends it up to a minute late."""
        return 60 if self.stage == "local" else MAX_UNWOKEN

    @property
    def knows_leading_keys(self) -> bool:
        """Whether IAM knows `dynamodb:LeadingKeys`, which limits a grant to some items. The local cloud's does not."""
        return self.stage != "local"


def _plain(value: Any) -> Any:
    """Return a setting as a value of JSON; an unset one is empty, because a template drops null."""
    if value is None:
        return ""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _choice(*allowed: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise InvalidContext(f"Context {name}={value!r}: use one of {', '.join(allowed)}.")
        return str(value)

    return check


def _number(least: int, most: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise InvalidContext(f"Context {name}={value!r}: use a whole number from {least:,} to {most:,}.")
        return int(text)

    return check


def _dollars(name: str, value: Any) -> str:
    try:
        nanodollars(value)
    except InvalidRequest as error:
        raise InvalidContext(f"Context {name}={value!r}: {error}") from None
    return str(value)


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidContext(f"Context {name}={value!r}: use up to 24 letters, digits and hyphens.")
    return value


def _several(kind: str, pattern: re.Pattern[str], example: str) -> Callable[[str, Any], tuple[str, ...]]:
    def check(name: str, value: Any) -> tuple[str, ...]:
        given = tuple(value.split(",")) if isinstance(value, str) else tuple(value)
        for each in given:
            if not isinstance(each, str) or not pattern.fullmatch(each):
                raise InvalidContext(f"Context {name}: {each!r} is no {kind}; use for example {example}.")
        return given

    return check


def _folder(name: str, value: Any) -> Path:
    if not Path(value).is_dir():
        raise InvalidContext(f"Context {name}={value!r}: there is no such folder.")
    return Path(value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "stage": _choice("dev", "prod", "local"),
    "name": _name,
    "max_upload_bytes": _number(1, 5 * GIB),  # a presigned POST's limit
    "upload_window_seconds": _number(60, 12 * 3600),  # a presigned form expires with its function's credentials
    "retention_days": _number(2, 3650),  # a job may run for a day after it has waited
    "max_concurrency": _number(1, 10_000),  # Step Functions' own limit
    "max_running_jobs": _number(1, 1000),  # each has an open Map Run, of which an account may have 1,000
    "max_running_jobs_per_tenant": _number(1, 1000),
    "reserved_workers": _number(1, 100_000),  # Lambda checks it against the account's quota
    "account_concurrency": _number(1, 1_000_000),
    "api_requests_per_second": _number(1, 10_000),  # API Gateway's default quota of an account in a region
    "api_burst": _number(1, 5_000),  # the same
    "worker_timeout_seconds": _number(10, 900),  # Lambda's own limit
    "max_cost_per_day": _dollars,
    "max_cost_per_day_per_tenant": _dollars,
    "bedrock_models": _several("model's ID", _MODEL, "eu.anthropic.claude-sonnet-4-6"),
    "alarm_emails": _several("e-mail address", _EMAIL, "ops@example.com"),
    "cors_origins": _several("origin", _ORIGIN, "https://app.example.com"),
    "processors": _folder,
}
