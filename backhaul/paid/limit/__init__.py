"""The rate limit of a provider: its rule, its driver, and the clock that callers share."""
