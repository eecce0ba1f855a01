"""What every test shares: the profile of the property tests, and a Ctrl-C that counts."""

import signal

from hypothesis import HealthCheck, settings

# derandomize: a failure seen once is seen again by everybody. No deadline: the machine's load is not the code's fault.
settings.register_profile(
    "choreo", max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("choreo")

# Who runs the tests in the background of a shell has them ignore Ctrl-C, and with them every process they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
