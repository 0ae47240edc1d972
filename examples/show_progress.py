"""Progress: a body says how far it is, once; a callback hears it, a bar shows it, and where nobody asks it is free."""

import sys

from rich.console import Console

from callpyback import CallPyBack, MockTimeSource, ProgressObserver, current_call

watch = CallPyBack()


@watch
def render(frames: int) -> int:
    """Render frames; `track` knows how many there are, and works with any iterable."""
    return sum(number * number for number in current_call().track(range(frames)))


@watch
def download(megabytes: int) -> None:
    """Say it in any unit, where there is no loop to track."""
    for done in range(0, megabytes + 1, 40):
        current_call().progress(done, megabytes)


print("nobody listens:", render(4))


@render.on_progress
def tell(done: int, total: int) -> None:
    """Hear of each step."""
    print(f"  {done} of {total}")


print("somebody does:", render(4))

# On a terminal the bars move; elsewhere each leaves its last line. The clock is one that stands still.
watch.add_observer(ProgressObserver(Console(file=sys.stdout, width=70), time_source=MockTimeSource()))
download(120)
