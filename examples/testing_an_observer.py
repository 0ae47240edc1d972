"""Testing an observer: `python examples/testing_an_observer.py`, or `pytest` with the same file.

An exception in an observer never reaches the call, so a test has to ask for it: `assert_healthy`.
"""

from callpyback import BaseObserver, CallPyBack, ExecutionContext, ExecutionState
from callpyback.testing import MockTimeSource, assert_healthy, build_context


class Slowest(BaseObserver):
    """Keeps the longest duration: the observer under test."""

    states = frozenset({ExecutionState.COMPLETED})
    seconds = 0.0

    def update(self, context: ExecutionContext) -> None:
        """Compare."""
        self.seconds = max(self.seconds, context.execution_time)


def test_the_longest_duration_is_kept() -> None:
    """A context built by hand is the shortest way to tell an observer something."""
    observer = Slowest()
    for seconds in (0.2, 0.9, 0.5):
        observer.update(build_context("work", execution_time=seconds))
    assert observer.seconds == 0.9


def test_it_works_on_a_decorated_function() -> None:
    """A clock that stands still until it is told to move: nothing sleeps, nothing is approximate."""
    clock, observer = MockTimeSource(), Slowest()

    @CallPyBack(observers=[observer], time_source=clock)
    def work(seconds: float) -> None:
        clock.advance(seconds)

    work(2.5)
    work(1.0)
    assert observer.seconds == 2.5
    assert_healthy(work)


if __name__ == "__main__":
    for test in (test_the_longest_duration_is_kept, test_it_works_on_a_decorated_function):
        test()
        print("passed:", test.__name__)
