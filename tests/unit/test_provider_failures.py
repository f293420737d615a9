"""What a provider's answers are to us: which failure, how long to wait, and no word of what was asked."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul.model import errors as base
from backhaul.model.errors import BackhaulError, CallerError, OperatorError, Permanent, Transient
from backhaul.model.transience import is_transient
from backhaul.providers import (
    ModelRefused,
    PromptTooLong,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
    RateLimits,
    UnreadableAnswer,
    errors,
)
from backhaul.providers.failures import aws_failure, http_failure
from backhaul.providers.limits import MAX_WAIT, read_limits, read_retry_after

ON_DEMAND = (
    "Invocation of model ID anthropic.claude-sonnet-4-6 with on-demand throughput isn\u2019t supported. "
    "Retry your request with the ID or ARN of an inference profile that contains this model."
)
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
OURS = [each for each in vars(errors).values() if isinstance(each, type) and each.__module__ == errors.__name__]


def failure(status, error=None, headers=None):
    body = error if isinstance(error, bytes) else json.dumps({"error": error or {}}).encode()
    return http_failure("small", status, headers or {}, body, NOW)


def test_the_tree_that_the_module_draws_is_the_real_one():
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^([│├└─ ]*)([A-Z][a-zA-Z]+)(?: {2,}\w.*)?$", line):
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            if depth:
                drawn[match[2]] = above[depth - 1]
    real = {each.__name__: each.__base__.__name__ for each in OURS}
    assert {name: parent for name, parent in drawn.items() if not hasattr(base, name)} == real


def test_their_codes_are_words_that_no_other_error_has():
    others = {each.code for each in vars(base).values() if isinstance(each, type) and issubclass(each, BackhaulError)}
    codes = [each.code for each in OURS]
    assert len({*codes}) == len(codes) == 11
    assert not others & {*codes}
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert not any(issubclass(each, CallerError) for each in OURS)


def test_what_may_pass_is_tried_again_and_the_rest_is_not():
    assert {each for each in OURS if issubclass(each, Transient)} == {ProviderBusy, ProviderDown, UnreadableAnswer}
    assert all(is_transient(each("x")) for each in (ProviderBusy, ProviderDown, UnreadableAnswer))
    for each in (ProviderDenied, ProviderRejected, PromptTooLong, ModelRefused):
        assert issubclass(each, Permanent)
        assert not is_transient(each("x"))
    assert issubclass(errors.SecretUnreadable, OperatorError)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (429, {"code": "rate_limit_exceeded"}, ProviderBusy),
        (429, b"<html>slow down</html>", ProviderBusy),
        (409, {"code": "idempotency_in_progress"}, ProviderBusy),
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}, ProviderDenied),
        (400, {"code": "billing_hard_limit_reached"}, ProviderDenied),
        (401, {"code": "invalid_api_key"}, ProviderDenied),
        (402, None, ProviderDenied),
        (403, None, ProviderDenied),
        (403, {"code": 403, "message": "flagged by the content filter"}, ModelRefused),
        (500, None, ProviderDown),
        (502, b"", ProviderDown),
        (503, {"message": "overloaded"}, ProviderDown),
        (504, None, ProviderDown),
        (529, {"type": "overloaded_error"}, ProviderDown),
        (408, None, ProviderDown),
        (425, None, ProviderDown),
        (301, b"", ProviderRejected),
        (307, b"", ProviderRejected),
        (400, {"code": "context_length_exceeded"}, PromptTooLong),
        (400, {"code": "string_above_max_length"}, PromptTooLong),
        (400, {"code": 400, "message": "This model's maximum context length is 4096 tokens."}, PromptTooLong),
        (
            400,
            {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000"},
            PromptTooLong,
        ),
        (413, b"too large", PromptTooLong),
        (400, {"code": "content_filter"}, ModelRefused),
        (400, {"message": "triggering Azure OpenAI's content management policy"}, ModelRefused),
        (400, {"code": "content_policy_violation"}, ModelRefused),
        (400, {"type": "invalid_request_error"}, ProviderRejected),
        (404, {"code": "model_not_found"}, ProviderRejected),
        (405, b"", ProviderRejected),
        (422, {"code": "idempotency_error"}, ProviderRejected),
        (418, None, ProviderRejected),
        (199, b"", ProviderDown),
    ],
)
def test_each_answer_is_one_kind_of_failure(status, error, kind):
    found = failure(status, error)
    assert type(found) is kind
    assert str(found).startswith(f"small answered {status}")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"error": null}', b'{"error": [1]}']
)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_an_error_of_any_form_is_understood_by_its_status(status, body):
    assert str(status) in str(http_failure("small", status, {}, body, NOW))


def test_vllms_form_without_a_wrapper_is_understood():
    body = json.dumps({"object": "error", "message": "the maximum context length is 10", "code": 400}).encode()
    assert type(failure(400, body)) is PromptTooLong


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422, 429, 500])
@pytest.mark.parametrize("code", ["sk-proj-SECRET", "SECRET", "My prompt SECRET", "a" * 60, "secret\nline", 5, None])
def test_no_message_repeats_what_the_provider_said(status, code):
    error = {"code": code, "type": code, "message": "Incorrect API key provided: SECRET. Your prompt: SECRET"}
    sentence = str(failure(status, error, {"retry-after": "SECRET", "location": "https://SECRET"}))
    assert "SECRET" not in sentence
    assert "secret" not in sentence
    assert len(sentence) < 160
    assert "\n" not in sentence


def test_a_code_of_plain_words_is_shown():
    assert "(context_length_exceeded)" in str(failure(400, {"code": "context_length_exceeded"}))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "1e9"}, MAX_WAIT),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "1500", "retry-after": "60"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "60"}, 60),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0),
        # The provider's clock is an hour ahead of ours: it is its own that counts.
        ({"retry-after": "Sun, 22 Nov 2026 13:00:30 GMT", "date": "Sun, 22 Nov 2026 13:00:00 GMT"}, 30),
        ({"x-ratelimit-reset-requests": "1s"}, 1),
        ({"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "6m0s"}, 0.02),
        (
            {
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            360,
        ),
        ({"anthropic-ratelimit-requests-reset": "2026-11-22T12:00:45Z"}, 45),
        ({"anthropic-ratelimit-input-tokens-remaining": "0"}
         | {"anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:01:00+00:00"}, 60),
        ({"x-ratelimit-reset": "1795348810"}, 10),
        ({"x-ratelimit-reset": "1795348810000"}, 10),
        ({"x-ratelimit-reset": "12"}, 12),
    ],
)  # fmt: skip
def test_when_to_come_back_is_understood_in_every_form(headers, seconds):
    assert read_retry_after(headers, NOW) == (None if seconds is None else pytest.approx(seconds, abs=1e-6))
    assert failure(429, None, headers).retry_after == read_retry_after(headers, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        ("90", 90),
        ("-1", 0),
        ("", None),
        ("s", None),
        ("m", None),
        ("1x", None),
        ("1s1m", None),
    ],
)
def test_durations_are_read_as_the_providers_write_them(text, seconds):
    limits = read_limits({"x-ratelimit-reset-requests": text}, NOW)
    assert (limits.requests_reset if limits else None) == seconds


def test_what_is_left_of_the_limits_is_read():
    openai = {
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-remaining-tokens": "159976",
        "x-ratelimit-reset-requests": "12ms",
        "x-ratelimit-reset-tokens": "9ms",
    }
    assert read_limits(openai, NOW) == RateLimits(5000, None, 4999, 159976, 0.012, 0.009)
    anthropic = {
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:01Z",
        "anthropic-ratelimit-tokens-limit": "50000",
        "anthropic-ratelimit-tokens-remaining": "40000",
        "anthropic-ratelimit-tokens-reset": "2026-11-22T12:00:02Z",
    }
    assert read_limits(anthropic, NOW) == RateLimits(None, 50000, 49, 40000, 1.0, 2.0)
    # Azure, where it does not know.
    assert read_limits({"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-remaining-requests": "x"}, NOW) is None
    assert read_limits({"content-type": "application/json"}, NOW) is None


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "retry-after-ms",
                "date",
                "x-ratelimit-reset",
                "x-ratelimit-reset-requests",
                "x-ratelimit-remaining-tokens",
                "anthropic-ratelimit-tokens-reset",
            ]
        ),
        st.text(max_size=30) | st.floats().map(str) | st.integers().map(str) | st.datetimes().map(str),
    )
)
def test_no_header_whatever_it_holds_breaks_anything(headers):
    wait = read_retry_after(headers, NOW)
    assert wait is None or 0 <= wait <= MAX_WAIT
    read_limits(headers, NOW)


@pytest.mark.parametrize(
    ("code", "status", "message", "kind"),
    [
        ("ThrottlingException", 429, "Too many tokens, please wait before trying again.", ProviderBusy),
        ("TooManyRequestsException", 429, "", ProviderBusy),
        ("ServiceQuotaExceededException", 400, "", ProviderBusy),
        ("ModelNotReadyException", 429, "", ProviderBusy),
        ("ServiceUnavailableException", 503, "", ProviderDown),
        ("InternalServerException", 500, "", ProviderDown),
        ("ModelTimeoutException", 408, "", ProviderDown),
        ("ModelErrorException", 424, "", ProviderDown),
        ("502", 502, "", ProviderDown),
        ("AccessDeniedException", 403, "You don't have access to the model", ProviderDenied),
        ("UnrecognizedClientException", 403, "The security token is invalid", ProviderDenied),
        ("ExpiredTokenException", 403, "", ProviderDenied),
        ("ExpiredToken", 400, "", ProviderDenied),
        ("SomethingNew", 403, "", ProviderDenied),
        ("ValidationException", 400, "Input is too long for requested model.", PromptTooLong),
        ("ValidationException", 400, "Too many input tokens. Max input tokens: 8192", PromptTooLong),
        ("ValidationException", 400, "blocked by guardrail", ModelRefused),
        ("ValidationException", 400, "Malformed input request: SECRET", ProviderRejected),
        ("ResourceNotFoundException", 404, "", ProviderDenied),
        ("ResourceNotFoundException", 404, "Model use case details have not been submitted. SECRET", ProviderDenied),
        ("ResourceNotFoundException", 404, "This model version has reached the end of its life.", ProviderDenied),
        ("ResourceNotFoundException", 404, "Access denied. This Model is marked by provider as Legacy", ProviderDenied),
        ("ValidationException", 400, ON_DEMAND, ProviderDenied),
        ("ValidationException", 400, ON_DEMAND.replace("\u2019", "'"), ProviderDenied),
        ("ValidationException", 400, "The provided model doesn't support on-demand throughput.", ProviderDenied),
        ("ValidationException", 400, "The provided model identifier is invalid.", ProviderDenied),
        ("ValidationException", 400, "This action doesn't support the model that you provided.", ProviderDenied),
        ("ValidationException", 400, "You have not filled out the required use-case form for it.", ProviderDenied),
        ("ValidationException", 400, "Operation not allowed", ProviderDenied),
        # A caller's JSON Schema names its fields as it likes, and opens nobody's breaker by that.
        ("ValidationException", 400, f"The value at toolConfig.properties.{ON_DEMAND} is SECRET", ProviderRejected),
        ("ValidationException", 400, "This model doesn't support tool use.", ProviderRejected),
        ("", 0, "", ProviderRejected),
        ("SECRET prompt", 400, "SECRET", ProviderRejected),
    ],
)
def test_each_error_of_aws_is_one_kind_of_failure(code, status, message, kind):
    found = aws_failure("claude", code, message, status, {"retry-after": "3"}, NOW)
    assert type(found) is kind
    assert "SECRET" not in str(found)
    if isinstance(found, Transient):
        assert found.retry_after == 3
