"""What stands between a processor and a paid API: budget, breaker, limit, cache."""
