"""Threads for plain functions with a deadline: taken when one is idle, made when none is, given up when one is late."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
import traceback
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from callpyback.core.forks import reset_after_fork
from callpyback.core.raised import without_own_frame
from callpyback.core.reporting import log
from callpyback.core.telling import TELLING, enter, leave

_IDLE_SECONDS: Final = 10.0
"""So long a thread waits for another job before it ends."""


class Job:
    """One run of a function in another thread, in the caller's context.

    Attributes:
        value: What it returned.
        is_late: Whether it was given up before it returned or raised.
        expired: The error of a job that was late.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = [(function, args, kwargs)]  # taken by whoever runs it, once
        self._context = contextvars.copy_context()
        self._context.run(_deepen)
        self._process = os.getpid()
        self._is_marked = threading.get_ident() in TELLING
        self._over = allocate_lock()
        self._over.acquire()
        self._undecided = [None]  # whoever takes this, by one atomic step, decides whether the job is late
        self._error: BaseException | None = None
        self._own_context: BaseException | None = None
        self._has_ended = False
        self.value: Any = None
        self.is_late = False
        self.expired: BaseException | None = None

    def run(self) -> None:
        """Run the function; called in the thread that is to run it."""
        try:
            function, args, kwargs = self._call.pop()
        except IndexError:
            return
        thread = threading.get_ident()
        if self._is_marked:
            enter(thread)
        try:
            self.value = self._context.run(function, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller, whatever it is
            self._error = without_own_frame(error)
            self._own_context = _CONTEXT.__get__(error)
        finally:
            if self._is_marked:
                leave(thread)
        del function, args, kwargs
        self._has_ended = True
        if os.getpid() != self._process:
            _end_process(self._error)
        if self._decides():
            self._end_waiting()
        else:
            LATE.discard(self)
            self._error = self.value = None

    def give_up(self) -> None:
        """Wait no longer, unless the job is done."""
        if self._decides():
            self.is_late = True
            LATE.add(self)
            if self._has_ended:  # just now, and its thread may have looked before it was late
                LATE.discard(self)
            self._end_waiting()

    def wait(self, seconds: float | None) -> None:
        """Wait until the job is done, or given up, or so many real seconds have passed."""
        try:
            self._over.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        finally:
            self.give_up()
            if not self.is_late:
                self._hand_back()

    def _decides(self) -> bool:
        try:
            self._undecided.pop()
        except IndexError:
            return False
        return True

    def _end_waiting(self) -> None:
        self._over.release()

    def _hand_back(self) -> None:
        """Give the caller's context what the function has set in its copy."""
        for variable, value in self._context.items():
            if variable is not _depth and variable.get(_UNSET) is not value:
                variable.set(value)

    def taken(self) -> BaseException | None:
        """Return the error, if any, and let go of it: its traceback holds the frame that holds this job."""
        if self.is_late:
            return self.expired
        error, self._error = self._error, None
        return error

    def hand_over(self, error: BaseException) -> None:
        """Give an error that the caller has raised the context it had, in front of what the caller is handling."""
        own, self._own_context = self._own_context, None
        if own is None:
            return
        handled, last, seen = _CONTEXT.__get__(error), own, {id(error)}
        _CONTEXT.__set__(error, own)
        while (earlier := _CONTEXT.__get__(last)) is not None and id(last) not in seen:
            seen.add(id(last))
            last = earlier
        if handled is not None and handled is not last and id(handled) not in seen and id(last) not in seen:
            _CONTEXT.__set__(last, handled)


# Read and written by this descriptor, no code of the user's exception class runs.
_CONTEXT: Final[Any] = vars(BaseException)["__context__"]

_UNSET: Final = object()

_depth: contextvars.ContextVar[int] = contextvars.ContextVar("callpyback_depth", default=0)
"""How many jobs are around this one, each in a thread of its own with a stack of its own."""


def _deepen() -> None:
    depth = _depth.get() + 1
    if depth > sys.getrecursionlimit():
        message = "maximum recursion depth exceeded by functions with max_execution_time, each in its own thread"
        raise RecursionError(message)
    _depth.set(depth)


def _end_process(error: BaseException | None) -> None:
    """End a child that was forked inside a function with a deadline: whoever waits for the function is the parent."""
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)  # noqa: T201 - as Python does
    elif error is not None:
        traceback.print_exception(error)
    else:
        message = "process %d, forked inside a function with max_execution_time, ends with it"
        log(logging.ERROR, message, os.getpid())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


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
    if sys.is_finalizing():
        return False
    try:
        worker = _idle.pop()
    except IndexError:
        worker = None
    try:
        if worker is None:
            _Worker(job)
        else:
            worker.take(job)
    except RuntimeError:
        return False
    return True


def late_jobs() -> int:
    """Return how many bodies still run after their deadline, in this process."""
    return len(LATE)
