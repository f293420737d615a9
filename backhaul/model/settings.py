"""The environment as a type: the stacks write it, the functions read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from backhaul.model.errors import InvalidRequest, InvalidSettings
from backhaul.model.money import nanodollars

PREFIX = "BACKHAUL_"


@dataclass(frozen=True)
class Settings:
    """A function's settings; a stage that does not use a value leaves it at its default."""

    data_bucket: str = ""
    jobs_table: str = ""
    event_bus: str = ""
    flow_table: str = ""
    state_machine_arn: str = ""
    failed_chunks_url: str = ""
    max_running_jobs: int = 100
    """Jobs that may run at a time; the others wait in the queue."""
    max_running_jobs_per_tenant: int = 20
    max_upload_bytes: int = 5 * 1024**3
    """The largest input a caller may upload; a presigned POST takes 5 GiB at most."""
    upload_window_seconds: int = 3600
    """How long an upload may take before its job expires."""
    result_window_seconds: int = 900
    """How long a presigned download stays valid."""
    retention_days: int = 30
    """How long a job's record is kept after it was created."""
    worker_seconds: int = 300
    """How long one invocation of a worker may last."""
    max_workers: int = 100
    """Workers that a job may have at a time."""
    max_cost_per_day: str = ""
    """US dollars that calls of providers may cost in a day (UTC); empty: no limit."""
    max_cost_per_day_per_tenant: str = ""
    """US dollars that one tenant's calls of providers may cost in a day (UTC); empty: no limit."""
    local_providers: bool = False
    """Whether a provider may be on this machine or in its private network: on the local cloud only."""

    @property
    def cap(self) -> int | None:
        """`max_cost_per_day` in nanodollars; None if there is no limit."""
        return _dollars("max_cost_per_day", self.max_cost_per_day)

    @property
    def cap_per_tenant(self) -> int | None:
        """`max_cost_per_day_per_tenant` in nanodollars; None if there is no limit."""
        return _dollars("max_cost_per_day_per_tenant", self.max_cost_per_day_per_tenant)

    def to_env(self) -> dict[str, str]:
        """Return the environment variables that `from_env` turns back into these settings."""
        return {
            PREFIX + item.name.upper(): str(getattr(self, item.name))
            for item in fields(self)
            if getattr(self, item.name) != item.default
        }

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read settings from environment variables; raises `InvalidSettings` naming the bad one."""
        values: dict[str, str | int | bool] = {}
        for item in fields(cls):
            name = PREFIX + item.name.upper()
            if name not in environ:
                continue
            values[item.name] = environ[name]
            if item.type == "int":
                values[item.name] = _positive(name, environ[name])
            elif item.type == "bool":
                values[item.name] = _yes_or_no(name, environ[name])
        return cls(**values)  # type: ignore[arg-type]  # the fields' own types, checked just above

    def require(self, *names: str) -> Settings:
        """Return these settings if every named one is set; raises `InvalidSettings` otherwise."""
        for name in names:
            if not getattr(self, name):
                raise InvalidSettings(f"{PREFIX}{name.upper()} is not set; deploy the stack again.")
        return self


def _positive(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InvalidSettings(f"{name}={text!r} is not a positive whole number.")
    return int(text)


def _yes_or_no(name: str, text: str) -> bool:
    if text not in ("True", "False"):
        raise InvalidSettings(f"{name}={text!r} is neither True nor False.")
    return text == "True"


def _dollars(name: str, amount: str) -> int | None:
    try:
        return nanodollars(amount) if amount else None
    except InvalidRequest as error:
        raise InvalidSettings(f"{PREFIX}{name.upper()}: {error}") from None
