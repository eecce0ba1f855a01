"""What every test shares: the profile of the property tests."""

from hypothesis import HealthCheck, settings

# derandomize: a failure seen once is seen again by everybody. No deadline: the machine's load is not the code's fault.
settings.register_profile(
    "choreo", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("choreo")
