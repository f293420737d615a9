"""An account's quota of concurrent Lambda executions, and how workers share a small one with the API."""

from __future__ import annotations

from math import isqrt

QUOTA_CODE = "L-B99A9384"
"""The code, in Service Quotas, of Lambda's concurrent executions in a region."""
USUAL_QUOTA = 1000
"""The usual quota of an account. AWS often gives a new account 10 or 50."""
UNRESERVED = 100
"""How many executions Lambda keeps for functions without a reservation. An account with no more can reserve none."""

_KEPT_SHARE, _MIN_KEPT_AT = 5, 5  # one function in five, and no fewer than five


def is_small(quota: int) -> bool:
    """Return whether workers of a deployment with usual limits could take all of the account's executions."""
    return quota < USUAL_QUOTA


def places_for_workers(quota: int) -> int:
    """Return how many of an account's executions may be workers; the API, dispatch and the sweep keep the others."""
    return max(1, quota - max(quota // _KEPT_SHARE, _MIN_KEPT_AT))


def workers_of_a_job(quota: int, jobs: int | None) -> int:
    """Return how many workers a job may have at a time if `jobs` run.

    With `jobs` None the result suits the quota: about as many workers a job as there are jobs.
    """
    places = places_for_workers(quota)
    return max(1, places // jobs if jobs else isqrt(places))


def jobs_at_a_time(quota: int, workers: int) -> int:
    """Return how many jobs with so many workers each may run at a time."""
    return max(1, places_for_workers(quota) // workers)


def too_small(quota: int, *, jobs: int, workers: int, reserved: int | None) -> str:
    """Return in words why an account's quota is too small for a deployment's limits; "" if it is large enough."""
    # A reservation bounds the workers of all jobs together, and Lambda refuses one that leaves others too little.
    if reserved or not is_small(quota) or jobs * workers <= places_for_workers(quota):
        return ""
    return (
        f"the account runs {quota:,} functions at a time (Lambda's quota {QUOTA_CODE}); {jobs:,} jobs with "
        f"{workers:,} workers each may use all of them, so that the API has to wait"
    )
