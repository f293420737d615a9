"""The local cloud: an AWS emulator on this machine, with the project's real stack deployed to it."""

from backhaul.local.cloud import LocalCloud
from backhaul.local.connection import Connection
from backhaul.local.status import State, Status
from backhaul.model.errors import LocalCloudError

__all__ = ["Connection", "LocalCloud", "LocalCloudError", "State", "Status"]
