"""What all tests share."""

from hypothesis import HealthCheck, settings

# How long examples take to make, or to run, says something of the machine and nothing of the code.
settings.register_profile("backhaul", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("backhaul")
