"""A limit in the flow table: DynamoDB does with an update what the rule says, and the item is what it should be."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backhaul.model.limit import SECOND, Condition, Rate, Refusal, Reservation, Sum, Update
from backhaul.paid.limit.limiter import Limiter
from backhaul.providers import RateLimits
from backhaul.store.limits import LimitStore
from benchmarks.limits.world import MemoryLimits

KEY = {"pk": {"S": "LIMIT#openai"}, "sk": {"S": "LIMIT"}}
RATE = Rate(requests=600, tokens=60_000)


@pytest.fixture
def store(deployment):
    return LimitStore(boto3.client("dynamodb"), "flow")


class Silent:
    """A store without its time: the clock of a test is not that of this machine."""

    def __init__(self, store):
        self.store = store
        self.writes = 0

    def update(self, provider, update):
        self.writes += 1
        answer = self.store.update(provider, update)
        return type(answer)(answer.applied, answer.before)


NAMES = st.sampled_from(["requests", "tokens", "clock", "requests_floor", "tokens_floor"])
NUMBERS = st.integers(-5, 5)
UPDATES = st.builds(
    Update,
    st.dictionaries(NAMES, st.builds(Sum, st.one_of(st.none(), NAMES), NUMBERS), min_size=1),
    st.lists(st.builds(Condition, NAMES, st.booleans(), st.one_of(NAMES, NUMBERS)), max_size=4).map(
        lambda conditions: tuple(each for each in conditions if each.name != each.than)
    ),
)
EMPTY = Update(
    {name: Sum(None, 0) for name in ("requests", "tokens", "clock", "requests_floor", "tokens_floor")}, creates=True
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(updates=st.lists(UPDATES, max_size=12), creates=st.booleans())
def test_dynamodb_applies_an_update_as_the_rule_does(store, updates, creates):
    boto3.client("dynamodb").delete_item(TableName="flow", Key=KEY)
    memory = MemoryLimits(witness=False)
    for update in [*([EMPTY] if creates else []), *updates, EMPTY]:
        expected = memory.update("openai", update)
        answer = store.update("openai", update)
        assert (answer.applied, answer.before) == (expected.applied, expected.before)
        assert store.get("openai") == memory.state


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "used", "refused", "settle", "observe"]),
        st.integers(0, 2),
        st.sampled_from([0.0, 0.01, 0.3, 2.0, 30.0]),
        st.integers(0, 5000),
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, tokens=st.booleans())
def test_a_limiter_says_the_same_over_dynamodb_as_over_the_benchmarks_store(deployment, store, events, tokens):
    boto3.client("dynamodb").delete_item(TableName="flow", Key=KEY)
    rate = RATE if tokens else Rate(requests=600)
    memory, real = MemoryLimits(witness=False), Silent(store)
    pairs = [[Limiter("openai", rate, each, deployment.clock) for each in (memory, real)] for _ in range(3)]
    for action, who, pause, number in events:
        deployment.clock.advance(seconds=pause)
        said = [act(limiter, action, number) for limiter in pairs[who]]
        if isinstance(said[0], Refusal):
            assert isinstance(said[1], Refusal)
            for limiter in pairs[who]:  # whose pauses differ at random
                limiter._away = 0
        else:
            assert said[0] == said[1]
        assert store.get("openai") == memory.state
    assert real.writes == memory.writes


def act(limiter, action, number):
    if action == "ask":
        return limiter.ask(number)
    if action == "used":
        return limiter.used(Reservation(0, 100), number // 10)
    if action == "refused":
        return limiter.refused(number / 100)
    if action == "observe":
        left = {"requests_left": 0, "tokens_left": number // 10}
        said = RateLimits(requests_limit=10, tokens_limit=1 + number, requests_reset=60.0, tokens_reset=60.0, **left)
        return limiter.observe(said, Reservation(0, number))
    return limiter.settle()


def test_the_item_has_whole_numbers_only_and_little_else(deployment, store):
    limiter = Limiter("openai", RATE, store, deployment.clock)
    for used in (10, 333, 7):
        limiter.ask(used)
    item = boto3.client("dynamodb").get_item(TableName="flow", Key=KEY)["Item"]
    assert set(item) == {"pk", "sk", "requests", "tokens", "clock", "requests_floor", "tokens_floor"}
    assert all(value["N"].lstrip("-").isdigit() for name, value in item.items() if name not in {"pk", "sk"})


def test_providers_do_not_share_a_limit(deployment, store):
    assert isinstance(Limiter("openai", RATE, store, deployment.clock).ask(), Reservation)
    assert store.get("anthropic") is None


def test_the_store_tells_its_own_time(deployment, store):
    answer = store.update("openai", EMPTY)
    assert answer.time is not None
    assert answer.time % SECOND == 0
    refused = store.update("openai", EMPTY)
    assert not refused.applied
    assert abs(refused.time - answer.time) <= 60 * SECOND


def test_a_clock_that_is_far_off_is_set_by_the_store(deployment, store):
    limiter = Limiter("openai", RATE, store, deployment.clock)  # a day behind, as tests are
    limiter.ask()
    witness = store.update("openai", EMPTY).time
    assert abs(store.get("openai").clock - witness) < 60 * SECOND


def test_an_answer_without_a_date_is_an_answer(deployment, store, monkeypatch):
    client = store._client
    update_item = client.update_item
    headers = {}

    def without_date(**arguments):
        answer = update_item(**arguments)
        answer["ResponseMetadata"]["HTTPHeaders"] = headers
        return answer

    monkeypatch.setattr(client, "update_item", without_date)
    assert store.update("openai", EMPTY).time is None
    headers["date"] = "yesterday"
    look = Update({"clock": Sum("clock", 1)})
    assert store.update("openai", look).time is None


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError"]
)
def test_a_throttled_table_lets_nobody_call(deployment, store, monkeypatch, code):
    def throttled(**_):
        raise ClientError({"Error": {"Code": code}}, "UpdateItem")

    monkeypatch.setattr(store._client, "update_item", throttled)
    said = Limiter("openai", RATE, store, deployment.clock).ask()
    assert isinstance(said, Refusal)
    assert 1 <= said.seconds <= 3


def test_a_table_that_is_not_there_is_no_throttling(deployment):
    store = LimitStore(boto3.client("dynamodb"), "nowhere")
    with pytest.raises(ClientError, match="ResourceNotFound"):
        Limiter("openai", RATE, store, deployment.clock).ask()
