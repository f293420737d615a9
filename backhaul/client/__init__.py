"""The callers' side: the client, its uploads and signatures, and how it finds a deployment."""

from backhaul.client.client import Backhaul
from backhaul.client.discovery import connect

__all__ = ["Backhaul", "connect"]
