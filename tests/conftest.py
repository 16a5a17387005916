"""What all tests share: hypothesis without deadlines, because a busy machine is no bug."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("hostward", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hostward")
