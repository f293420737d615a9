"""Whose request it is."""

import pytest

from backhaul.model.errors import InvalidRequest
from backhaul.model.tenant import tenant_of


@pytest.mark.parametrize(
    ("user_id", "tenant"),
    [
        ("AIDAJQABLZS4A3QDU576Q", "AIDAJQABLZS4A3QDU576Q"),
        ("AROAJQABLZS4A3QDU576Q:session-1", "AROAJQABLZS4A3QDU576Q"),
        ("AROAJQABLZS4A3QDU576Q:someone@example.com", "AROAJQABLZS4A3QDU576Q"),
        ("AROAJQABLZS4A3QDU576Q:a:b", "AROAJQABLZS4A3QDU576Q"),
        ("123456789012", "123456789012"),
    ],
)
def test_the_tenant_is_the_unique_id_of_the_user_or_role(user_id, tenant):
    assert tenant_of({"userId": user_id}) == tenant


def test_the_sessions_of_a_role_are_one_tenant_and_other_roles_are_not():
    assert tenant_of({"userId": "AROA1:a"}) == tenant_of({"userId": "AROA1:b"})
    assert tenant_of({"userId": "AROA1:a"}) != tenant_of({"userId": "AROA10:a"})


@pytest.mark.parametrize("user_id", [None, "", ":", ":x", "T#2", "../T2", "T/2", "é", "T" * 65, "T1\n", 5.5, ["T1"]])
def test_a_request_without_such_an_id_is_refused(user_id):
    with pytest.raises(InvalidRequest, match="Sign it"):
        tenant_of({"userId": user_id})
    with pytest.raises(InvalidRequest):
        tenant_of({})


def test_a_federated_user_does_not_share_the_root_users_tenant():
    with pytest.raises(InvalidRequest, match="federated"):
        tenant_of({"userId": "123456789012:Bob"})
