"""One attempt at a shard, from the claim to the outcome."""
