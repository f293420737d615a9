"""Callbacks: ending a wait of the state machine by its task token."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


class Callbacks:
    """The waits of one deployment's executions."""

    def __init__(self, client: SFNClient) -> None:
        self._client = client

    def answer(self, token: str) -> bool:
        """End the wait of this token; false if it has ended already, by whatever."""
        gone = self._client.exceptions
        try:
            self._client.send_task_success(taskToken=token, output="{}")
        except (gone.TaskTimedOut, gone.TaskDoesNotExist, gone.InvalidToken):
            return False
        return True
