"""Threads for plain functions with a deadline: taken when one is idle, made when none is, given up when one is late."""

from __future__ import annotations

import contextvars
import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.forks import reset_after_fork

_IDLE_SECONDS: Final = 10.0
"""So long a thread waits for another job before it ends."""


class Job:
    """One run of a function in another thread, in the caller's context.

    Attributes:
        value: What it returned.
        error: What it raised.
        is_done: Whether it has returned or raised.
        is_late: Whether it had not when the waiting ended.
        expired: The error of a job that was not done in time.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = (function, args, kwargs)
        self._context = contextvars.copy_context()
        self._over = allocate_lock()
        self._over.acquire()
        self.value: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self.is_late = False
        self.expired: BaseException | None = None

    def run(self) -> None:
        """Run the function; called in the thread that is to run it."""
        function, args, kwargs = self._call
        try:
            self.value = self._context.run(function, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller, whatever it is
            trace = error.__traceback__
            self.error = error.with_traceback(None if trace is None else trace.tb_next)
        self.is_done = True
        del self._call, function, args, kwargs
        self.give_up()

    def give_up(self) -> None:
        """End the waiting."""
        try:
            self._over.release()
        except RuntimeError:
            pass  # ended already

    def wait(self, seconds: float | None) -> None:
        """Wait until the job is done, or given up, or so many real seconds have passed."""
        try:
            self._over.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        finally:
            if self.is_done:
                self._hand_back()
            else:
                LATE.add(self)
                self.is_late = True
                if self.is_done:  # just now, and its thread may have looked before it was late
                    LATE.discard(self)

    def _hand_back(self) -> None:
        """Give the caller's context what the function has set in its copy."""
        for variable, value in self._context.items():
            if variable.get(_UNSET) is not value:
                variable.set(value)

    def taken(self) -> BaseException | None:
        """Return the error, if any, and let go of it: its traceback holds the frame that holds this job."""
        error, self.error = self.error, None
        return self.expired or error


_UNSET: Final = object()

LATE: Final[set[Job]] = set()
"""The jobs that were given up and still run."""


class _Worker:
    """A daemon thread: it does not keep the program from ending, whatever it runs."""

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job
        self._wanted = allocate_lock()
        self._wanted.acquire()
        threading.Thread(target=self._work, name="callpyback-deadline", daemon=True).start()

    def take(self, job: Job) -> None:
        """Run a job next."""
        self._job = job
        self._wanted.release()

    def _work(self) -> None:
        while (job := self._job) is not None:
            self._job = None
            job.run()
            LATE.discard(job)
            del job
            _idle.append(self)
            if not self._wanted.acquire(timeout=_IDLE_SECONDS):
                try:
                    _idle.remove(self)
                except ValueError:  # taken at this very moment
                    self._wanted.acquire()


class _Idle(deque[_Worker]):
    """The threads that wait for a job, the one that waits least last."""

    def reset_after_fork(self) -> None:
        """Forget the threads that did not survive the fork."""
        self.clear()
        LATE.clear()

    __hash__ = object.__hash__  # type: ignore[assignment]


_idle: Final = _Idle()
reset_after_fork(_idle)


def started(job: Job) -> bool:
    """Have a job run by a thread; return False if none can be had."""
    try:
        _idle.pop().take(job)
    except IndexError:
        try:
            _Worker(job)
        except RuntimeError:
            return False
    return True


def late_jobs() -> int:
    """Return how many bodies still run after their deadline, in this process."""
    return len(LATE)
