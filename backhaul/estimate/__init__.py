"""Estimates of a job's calls, cost and time, before it is paid for."""
