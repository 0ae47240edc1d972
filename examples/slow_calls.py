"""TimingObserver: the calls that took too long, with their arguments; the clock is a mock one, so nobody waits."""

from callpyback import CallPyBack, MockTimeSource, TimingObserver

clock = MockTimeSource()
timing = TimingObserver(threshold=0.5, arguments=True)


@CallPyBack(observers=[timing], time_source=clock)
def render(page: str, images: int) -> str:
    """Take a tenth of a second for each image."""
    clock.advance(images / 10)
    return f"<html>{page}</html>"


render("contact", 1)
render("gallery", 40)
render("news", 4)
render("archive", 9)

for slow in timing.get_slow_executions():
    print(f"{slow.execution_time:.1f} s  {slow.function}  {slow.arguments}")
