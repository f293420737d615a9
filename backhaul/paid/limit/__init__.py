"""The rate limit of a provider: its rule, the driver that carries it out, and the clock that all workers share."""
