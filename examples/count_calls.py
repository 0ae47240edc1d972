"""MetricsObserver: how often, how it ended, how long, for each function it watches."""

from callpyback import CallPyBack, MetricsObserver

metrics = MetricsObserver()
watch = CallPyBack(observers=[metrics])


@watch
def parse_age(text: str) -> int:
    """Read a number."""
    return int(text)


@watch
def greeting(name: str) -> str:
    """Make a sentence."""
    return f"hello {name}"


for text in ("42", "7", "seven", None, "93"):
    try:
        parse_age(text)
    except (TypeError, ValueError):
        greeting("stranger")
    else:
        greeting("friend")

for name, stats in metrics.get_metrics()["function_stats"].items():
    print(f"{name:<10} {stats['calls']} calls, {stats['successes']} successes, {stats['failures']} failures")
    print(f"{'':<10} failures by type: {stats['failures_by_type']}")
    print(f"{'':<10} p50 {stats['p50'] * 1e6:.1f} us, p99 {stats['p99'] * 1e6:.1f} us")
