"""CircuitBreakerObserver: a service that is down is left alone for a while, then tried with a single call."""

import logging

from callpyback import CallPyBack, CircuitBreakerObserver, CircuitOpen, MockTimeSource

logging.getLogger("callpyback").setLevel(logging.ERROR)  # the changes are shown below instead

clock = MockTimeSource()
breaker = CircuitBreakerObserver(
    failure_threshold=3,
    recovery_time=30.0,
    on=ConnectionError,
    on_state_change=lambda change: print(f"  [{change.before} -> {change.after}: {change.reason}]"),
)
is_down = True


@CallPyBack(observers=[breaker], time_source=clock)
def balance(account: int) -> str:
    """Ask the bank."""
    if account < 0:
        raise KeyError(account)  # the caller's mistake: the bank did answer
    if is_down:
        raise ConnectionError("no route to the bank")
    return "12.50"


def show(account: int) -> None:
    """Ask, and print what the caller gets."""
    try:
        print(f"{clock.now():>4g} s: {balance(account)}")
    except CircuitOpen as refused:
        print(f"{clock.now():>4g} s: refused at once, again in {refused.retry_after:g} s")
    except (ConnectionError, KeyError) as error:
        print(f"{clock.now():>4g} s: {error!r}")


for account in (1, 1, -1, 1, 1, 1, 1):
    show(account)
clock.advance(30)
show(1)
is_down = False
clock.advance(30)
show(1)
show(1)
