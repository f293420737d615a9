"""The circuit breaker of a provider: its rule and its driver."""
