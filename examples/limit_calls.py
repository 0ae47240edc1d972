"""RateLimitObserver: so many calls of each user in any ten seconds. The clock is a mock one, so nobody waits."""

from callpyback import CallPyBack, MockTimeSource, RateLimitExceeded, RateLimitObserver

clock = MockTimeSource()
limit = RateLimitObserver(max_calls=2, period=10.0, key=lambda arguments: arguments["user"])


@CallPyBack(observers=[limit], time_source=clock)
def search(user: str, words: str) -> str:
    """Find something."""
    return f"{words!r} for {user}"


for second, user in [(0, "ann"), (4, "ann"), (6, "ann"), (6, "bob"), (10, "ann")]:
    clock.set_time(second)
    try:
        print(f"at {second:>2} s: {search(user, 'tea')}")
    except RateLimitExceeded as refused:
        print(f"at {second:>2} s: {user} is refused, to try again in {refused.retry_after:g} s")

metrics = limit.get_metrics()
print(f"{metrics['admitted']} admitted, {metrics['refused']} refused")
