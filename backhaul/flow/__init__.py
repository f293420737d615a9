"""Pure rules about what may happen when, each beside the store call that applies it."""
