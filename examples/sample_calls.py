"""SamplingObserver: a tenth of the calls, the first ones, all that failed. DeduplicateObserver: equal failures once.

The sample is drawn with a seed, so that this prints the same each time.
"""

from random import Random

from callpyback import CallPyBack, DeduplicateObserver, MockTimeSource, SamplingObserver, on_completion, on_failure

clock = MockTimeSource()
sampled: list[int] = []

sampling = SamplingObserver(
    on_completion(lambda arguments: sampled.append(arguments["order"])),
    rate=0.1,
    first=3,
    random=Random(4),  # noqa: S311
)
alarm = DeduplicateObserver(
    on_failure(lambda exception, metadata: print(f"alarm: {exception} {metadata}")), window=60, time_source=clock
)


@CallPyBack(observers=[sampling, alarm], default_return=None)
def ship(order: int) -> str:
    """Send an order, one a second; the depot closes for a while."""
    clock.advance(1)
    if 20 <= order < 100:
        raise ConnectionError("the depot does not answer")
    return f"order {order} is on its way"


for order in range(200):
    ship(order)

numbers = sampling.get_metrics()
print(f"{numbers['seen']} seen, {numbers['sampled']} drawn or first, {numbers['kept']} kept because they failed")
successes = [order for order in sampled if not 20 <= order < 100]
print("successes in the sample:", successes)
print("failures in the sample:", len(sampled) - len(successes), "of 80")
print("equal failures held back:", alarm.get_metrics()["suppressed"])
