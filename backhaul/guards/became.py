"""What became of a paid call, and who is told of it: the breaker, and the limit."""

from __future__ import annotations

from dataclasses import dataclass

from backhaul.errors import OperatorError
from backhaul.guards.allowance import Reservation
from backhaul.guards.breaker_rule import Go, Outcome, Probe, Result
from backhaul.guards.channels import Channel
from backhaul.limit import Go as Turn
from backhaul.providers import ModelRefused, Provider, ProviderBusy, ProviderDenied, ProviderDown, RateLimits, Usage
from backhaul.transience import is_transient


@dataclass(frozen=True)
class Became:
    """What a call says of its provider, and what it cost in nanodollars.

    `taken` is None where nobody knows what it took; then all that was reserved for it may be.
    """

    result: Result
    cost: int
    taken: Usage | None = None
    limits: RateLimits | None = None


def became_of(error: Exception, provider: Provider, reservation: Reservation, *, is_cut_off: bool) -> Became:
    """Return what became of a call that raised; `is_cut_off` says that it was we who ended it."""
    match error:
        case ProviderBusy():
            return Became(Result.THROTTLED, 0, Usage(0))
        case ProviderDenied():
            return Became(Result.DENIED, 0, Usage(0))
        case ProviderDown():
            result = Result.NOT_MADE if is_cut_off else Result.FAILED
            return Became(result, reservation.estimate) if error.may_be_paid else Became(result, 0, Usage(0))
        case ModelRefused():
            taken = Usage(error.input_tokens, error.output_tokens)
            return Became(Result.OK, provider.cost(taken), taken)
        case _:  # no request for this provider, or no key to be had for it: nothing was paid
            is_unmade = isinstance(error, OperatorError) or is_transient(error)
            return Became(Result.NOT_MADE if is_unmade else Result.OK, 0, Usage(0))


def take_down(channel: Channel, turn: Turn | None, became: Became) -> None:
    """Tell the limit what the call took, and what the provider said is left."""
    if channel.limiter and turn:
        if became.taken:
            channel.limiter.used(turn, became.taken.input_tokens + became.taken.output_tokens)
        if became.limits:
            channel.limiter.observe(became.limits, turn)


def report(channel: Channel, permit: Go | Probe | None, result: Result) -> None:
    """Tell the breaker, if it was asked."""
    if permit is not None:
        channel.breaker.report(Outcome(permit, result))
