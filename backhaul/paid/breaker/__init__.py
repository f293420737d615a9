"""The circuit breaker of a provider: its rule, and the driver that carries it out."""
