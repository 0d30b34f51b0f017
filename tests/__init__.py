"""The tests. None is timed: how long an example takes, or the making of one, is the machine's affair."""

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
