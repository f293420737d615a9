"""Runs a processor on a file in this process, without a cloud."""
