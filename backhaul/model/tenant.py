"""The tenant of a request: the IAM user or role that signed it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from backhaul.model.errors import InvalidRequest

_UNIQUE_ID = re.compile(r"[A-Za-z0-9]{1,64}")


def tenant_of(identity: Mapping[str, Any]) -> str:
    """Return the tenant of a caller whom API Gateway authenticated by IAM.

    The tenant is the unique ID that IAM gave the user or role (AIDA…, AROA…). So all sessions of a role are one
    tenant, and a new role under an old name is another one. The root user's tenant is the account ID. A federated
    user's ID begins with the account ID too, so a federated user has no tenant.

    `identity` is `requestContext.authorizer.iam` of an HTTP API event. Raises `InvalidRequest` if it names no tenant.
    """
    unique_id, session, _ = str(identity.get("userId") or "").partition(":")
    if unique_id.isdigit() and session:
        raise InvalidRequest("A federated user has no identity of its own. Sign the request as an IAM role or user.")
    if not _UNIQUE_ID.fullmatch(unique_id):
        raise InvalidRequest("The request carries no IAM identity. Sign it with AWS Signature Version 4.")
    return unique_id
