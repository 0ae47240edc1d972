"""CacheObserver: what was computed before is the answer; of many who ask at once, one computes for all."""

import threading

from callpyback import CacheObserver, CallPyBack, MockTimeSource

clock = MockTimeSource()
cache = CacheObserver(ttl_seconds=60, maxsize=100)


@CallPyBack(observers=[cache], time_source=clock)
def area(width: int, height: int = 1) -> int:
    """Multiply, and say so."""
    print(f"  computing {width} * {height}")
    return width * height


print(area(3), area(3, 1), area(height=1, width=3), "- three ways to ask the same")
clock.advance(60)
print(area(3), "- a minute later it is computed anew")
print("invalidated:", cache.invalidate(area, 3))
print(area(3), "- and again")

everybody = threading.Barrier(5)
lasts = threading.Event()


@CallPyBack(observers=[cache])
def report() -> str:
    """Take as long as it takes for the others to come."""
    print("  computing the report")
    lasts.wait()
    return "the report"


def ask() -> None:
    """Ask together with the others."""
    everybody.wait()
    report()


threads = [threading.Thread(target=ask) for _ in range(5)]
for thread in threads:
    thread.start()
lasts.set()
for thread in threads:
    thread.join()
stats = cache.get_cache_stats()["functions"]["__main__.report"]
print(f"five threads: {stats['misses']} computed, {stats['hits'] + stats['waits']} were answered")
