"""The outcome of a paid call, and the reports of it to the provider's breaker and limit."""

from __future__ import annotations

from dataclasses import dataclass

from backhaul.model.errors import OperatorError
from backhaul.model.limit import Reservation
from backhaul.model.transience import is_transient
from backhaul.paid.breaker.rule import CallReport, CallResult, Permit, Probe
from backhaul.paid.budget.rule import Hold
from backhaul.paid.channels import Channel
from backhaul.providers import (
    ModelRefused,
    Provider,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
    RateLimits,
    Usage,
)


@dataclass(frozen=True)
class CallOutcome:
    """What a call says of its provider, and its cost in nanodollars.

    `taken` are the tokens that the call used; None if that is not known. Then all reserved tokens count as used.
    """

    result: CallResult
    cost: int
    taken: Usage | None = None
    limits: RateLimits | None = None
    asked: float = 0.0
    """For how many seconds the provider wants no call; 0 if it did not say."""


def outcome_of_error(error: Exception, provider: Provider, hold: Hold, *, is_cut_off: bool) -> CallOutcome:
    """Return the outcome of a call that raised; `is_cut_off` says that the worker ended it.

    A call that the provider may have billed costs its estimate, because its real cost is not known.
    """
    match error:
        case ProviderBusy():
            return CallOutcome(CallResult.THROTTLED, 0, Usage(0), asked=error.retry_after or 0.0)
        case ProviderDenied():
            return CallOutcome(CallResult.DENIED, 0, Usage(0))
        case ProviderDown():
            # A worker that cut the call off did not wait for the provider, so the provider is not to blame.
            result = CallResult.NOT_MADE if is_cut_off else CallResult.FAILED
            return CallOutcome(result, hold.estimate) if error.may_be_paid else CallOutcome(result, 0, Usage(0))
        case ProviderRejected() if error.may_be_paid:
            return CallOutcome(CallResult.OK, hold.estimate)
        case ModelRefused():
            taken = Usage(error.input_tokens, error.output_tokens)
            return CallOutcome(CallResult.OK, provider.cost(taken), taken)
        # The rest was never billed: the request is none for this provider, or its key could not be read. Only a
        # failure of the deployment's own side (settings, a store) says nothing of the provider.
        case _:
            is_unmade = isinstance(error, OperatorError) or is_transient(error)
            return CallOutcome(CallResult.NOT_MADE if is_unmade else CallResult.OK, 0, Usage(0))


def report_to_limit(channel: Channel, reservation: Reservation | None, outcome: CallOutcome) -> None:
    """Tell the limit the tokens that the call used, and the capacity that the provider says is left."""
    if channel.limiter and reservation:
        if outcome.taken:
            channel.limiter.used(reservation, outcome.taken.input_tokens + outcome.taken.output_tokens)
        if outcome.limits:
            channel.limiter.observe(outcome.limits, reservation)


def report_to_breaker(channel: Channel, permit: Permit | Probe | None, outcome: CallOutcome) -> None:
    """Tell the breaker the outcome of a call that it permitted; without a permit, do nothing."""
    if permit is not None:
        channel.breaker.report(CallReport(permit, outcome.result, outcome.asked))
