"""What became of a paid call, and who is told of it: the breaker, and the limit."""

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
    """What a call says of its provider, and what it cost in nanodollars.

    `taken` is None where nobody knows what it took; then all that was reserved for it may be.
    """

    result: CallResult
    cost: int
    taken: Usage | None = None
    limits: RateLimits | None = None


def outcome_of_error(error: Exception, provider: Provider, hold: Hold, *, is_cut_off: bool) -> CallOutcome:
    """Return what became of a call that raised; `is_cut_off` says that it was we who ended it."""
    match error:
        case ProviderBusy():
            return CallOutcome(CallResult.THROTTLED, 0, Usage(0))
        case ProviderDenied():
            return CallOutcome(CallResult.DENIED, 0, Usage(0))
        case ProviderDown():
            result = CallResult.NOT_MADE if is_cut_off else CallResult.FAILED
            return CallOutcome(result, hold.estimate) if error.may_be_paid else CallOutcome(result, 0, Usage(0))
        case ProviderRejected() if error.may_be_paid:
            return CallOutcome(CallResult.OK, hold.estimate)
        case ModelRefused():
            taken = Usage(error.input_tokens, error.output_tokens)
            return CallOutcome(CallResult.OK, provider.cost(taken), taken)
        case _:  # no request for this provider, or no key to be had for it: nothing was paid
            is_unmade = isinstance(error, OperatorError) or is_transient(error)
            return CallOutcome(CallResult.NOT_MADE if is_unmade else CallResult.OK, 0, Usage(0))


def take_down(channel: Channel, reservation: Reservation | None, outcome: CallOutcome) -> None:
    """Tell the limit what the call took, and what the provider said is left."""
    if channel.limiter and reservation:
        if outcome.taken:
            channel.limiter.used(reservation, outcome.taken.input_tokens + outcome.taken.output_tokens)
        if outcome.limits:
            channel.limiter.observe(outcome.limits, reservation)


def report(channel: Channel, permit: Permit | Probe | None, result: CallResult) -> None:
    """Tell the breaker, if it was asked."""
    if permit is not None:
        channel.breaker.report(CallReport(permit, result))
