"""What stands between a processor and a paid API: budget, breaker, limit, cache; `paid.py` puts them in order."""
