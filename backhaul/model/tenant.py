"""Whose request it is: the tenant is the IAM user or role that signed it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backhaul.model.errors import InvalidRequest

_UNIQUE_ID = re.compile(r"[A-Za-z0-9]{1,64}")


def tenant_of(identity: Mapping[str, Any]) -> str:
    """Return the tenant of a caller whom API Gateway authenticated by IAM.

    It is the unique ID that IAM gave the user or role (AIDA…, AROA…), so every session of a role is
    the same tenant, and a role made anew under an old name is not. The root user's tenant is the
    account ID; a federated user, whose ID begins with it too, has none.

    `identity` is `requestContext.authorizer.iam` of an HTTP API event.
    """
    unique_id, session, _ = str(identity.get("userId") or "").partition(":")
    if unique_id.isdigit() and session:
        raise InvalidRequest("A federated user has no identity of its own. Sign the request as an IAM role or user.")
    if not _UNIQUE_ID.fullmatch(unique_id):
        raise InvalidRequest("The request carries no IAM identity. Sign it with AWS Signature Version 4.")
    return unique_id
