"""Rules that stages share, each beside the store call that applies it; `docs/architecture.md` says who does what."""
