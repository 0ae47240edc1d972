"""PerformanceProfileObserver: statistics of each function, and an alert when it slows down. The clock is a mock one."""

from callpyback import CallPyBack, MockTimeSource
from callpyback.observers.performance_profile import PerformanceProfileObserver

clock = MockTimeSource()
profiler = PerformanceProfileObserver(
    window_size=500,
    alert_threshold_ms=200,
    on_alert=lambda alert: print(f"{alert['severity']:<6} {alert['type']}: {alert['message']}"),
)


@CallPyBack(observers=[profiler], time_source=clock)
def database_query(query: str, seconds: float) -> str:
    """Take so long."""
    clock.advance(seconds)
    return f"result of {query}"


for number in range(95):
    database_query(f"customer {number}", 0.010 + 0.001 * (number % 5))
database_query("all customers", 0.300)  # one outlier is slow, and no degradation
for _ in range(24):
    database_query("a table that has grown", 0.030)

report = profiler.get_performance_report("database_query")["functions"]["database_query"]
for key in ("total_calls", "mean_time_ms", "median_time_ms", "p95_time_ms", "max_time_ms"):
    print(f"{key:<15} {report[key]:.1f}")
