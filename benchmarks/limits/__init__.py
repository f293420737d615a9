"""A limit for a provider, shared by many callers, on a virtual clock: ours, and three libraries beside it."""
