"""AlertObserver: an alert when more than half of the calls of the last minute failed, and its end. No one waits."""

from callpyback import CallPyBack, MockTimeSource
from callpyback.observers.alert import AlertObserver

clock = MockTimeSource()
alerts = AlertObserver(
    threshold=0.5,
    window=60.0,
    min_calls=5,
    on_alert=lambda alert: print(f"{clock.now():>3.0f} s  FIRING    {alert['message']}"),
    on_resolve=lambda alert: print(f"{clock.now():>3.0f} s  RESOLVED  {alert['message']}"),
    time_source=clock,
)


@CallPyBack(observers=[alerts])
def fetch(page: int) -> str:
    """Fail for a while."""
    if 20 <= clock.now() < 80:
        raise ConnectionError("no route to host")
    return f"page {page}"


for page in range(40):
    clock.advance(4.0)
    try:
        fetch(page)
    except ConnectionError:
        pass

numbers = alerts.get_metrics()["functions"]["fetch"]
print(f"now {numbers['failures']} of {numbers['calls']} calls of the last minute failed")
