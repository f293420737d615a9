"""Names of what is stored: they begin with the tenant, and only our own are read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul.model import keys
from backhaul.model.errors import MalformedMessage
from backhaul.model.job import JobRef

ID = "0123456789abcdefghjkmnpqrs"
TENANTS = st.from_regex(r"[A-Za-z0-9]{1,64}", fullmatch=True)
IDS = st.from_regex(r"[0-9a-z]{26}", fullmatch=True)
REFS = st.builds(JobRef, TENANTS, IDS)


@given(REFS)
def test_an_input_key_names_its_job(ref):
    assert keys.job_of_input(keys.input_key(ref)) == ref


def everything(ref: JobRef) -> list[str]:
    return [
        keys.input_key(ref),
        keys.plan_key(ref, 1),
        keys.result_key(ref, 1, 2, 3),
        keys.output_key(ref, 1, "5eed"),
        keys.receipt_key(ref, 1, "5eed"),
    ]


@given(REFS)
def test_everything_of_a_job_lies_below_its_prefix_and_its_tenant(ref):
    for key in everything(ref):
        assert key.startswith(keys.job_prefix(ref))
        assert key.startswith(f"t/{ref.tenant}/")
        assert len(key) < 1024
    assert len(set(everything(ref))) == 5


@given(REFS, REFS)
def test_no_job_lies_below_another(one, other):
    if one != other:
        assert not keys.job_prefix(one).startswith(keys.job_prefix(other))
        assert not keys.partition(one).startswith(keys.partition(other))


@pytest.mark.parametrize(
    "key",
    [
        "",
        f"t/T1/j/{ID}",
        f"t/T1/j/{ID}/input/data\n",
        f"\nt/T1/j/{ID}/input/data",
        f"t/T1/j/{ID}/input/data/x",
        f"t/T1/j/{ID[:-1]}/input/data",
        f"t/T1/j/{ID.upper()}/input/data",
        f"t//j/{ID}/input/data",
        f"t/../j/{ID}/input/data",
        f"t/T#1/j/{ID}/input/data",
        f"t/é/j/{ID}/input/data",
        f"t/\u0661/j/{ID}/input/data",
        f"t/{'T' * 65}/j/{ID}/input/data",
    ],
)
def test_what_is_no_input_key_is_malformed(key):
    with pytest.raises(MalformedMessage):
        keys.job_of_input(key)


def test_shards_sort_by_number_as_text():
    numbers = [0, 9, 10, 99, 1562, 99_999]
    assert sorted(map(keys.shard_sort_key, numbers)) == list(map(keys.shard_sort_key, numbers))
    assert keys.shard_sort_key(7) == "SHARD#000007"
    assert not keys.JOB_SORT_KEY.startswith(keys.SHARD_PREFIX)


def test_attempts_never_share_a_result():
    ref = JobRef("T1", ID)
    names = {keys.result_key(ref, shard, attempt, part) for shard in (1, 11) for attempt in (1, 11) for part in (1, 11)}
    assert len(names) == 8


def test_the_same_run_always_has_the_same_name():
    assert keys.run_name(JobRef("T1", ID), 2) == f"{ID}-2"


@pytest.mark.parametrize(("text", "is_one"), [(ID, True), ("", False), (ID + "\n", False), ("é" * 26, False)])
def test_a_job_id_is_known_by_its_form(text, is_one):
    assert keys.is_job_id(text) is is_one
