"""Retry: the body runs again after errors that pass; it stays one call. The waits go by a mock clock."""

from callpyback import CallPyBack, MetricsObserver, MockTimeSource, Retry, on_completion

clock = MockTimeSource()
metrics = MetricsObserver()
answers = {
    "Rome": iter([ConnectionError("reset"), TimeoutError("too slow"), "sunny"]),
    "Oslo": iter([ConnectionError("reset")] * 3),
    "Lima": iter([ValueError("no such city")]),
}


@CallPyBack(
    observers=[metrics, on_completion(lambda outcome, attempt: print(f"  {outcome.name} in attempt {attempt}"))],
    retry=Retry(attempts=3, on=(ConnectionError, TimeoutError), wait=lambda attempt: 2.0**attempt),
    time_source=clock,
)
def weather(city: str) -> str:
    """Ask a service that fails now and then."""
    answer = next(answers[city])
    if isinstance(answer, Exception):
        raise answer
    return answer


@weather.on_retry
def tell(attempt: int, exception: Exception, wait: float) -> None:
    """Hear of each retry before the wait."""
    print(f"  attempt {attempt} failed with {exception!r}, again in {wait:g} s")


for city in answers:
    print(city)
    try:
        print(" ", weather(city))
    except (OSError, ValueError) as error:
        print(f"  the caller gets {error!r}")

counters = metrics.get_metrics()["counters"]
print({name: counters[name] for name in ("calls", "retries", "failures")})
print(f"waited for {clock.now():g} s, on a clock that takes no time")
