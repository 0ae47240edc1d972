"""`max_execution_time`: what ends a body that takes too long, for each kind of callable."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callpyback.core.reporting import report
from callpyback.core.waiting import call_later, called_soon, running_loop, running_trio
from callpyback.core.workers import Job, started
from callpyback.errors import ExecutionTimeout

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.core.waiting import Cancellable


class Deadline:
    """The limit on one run of the body of one function.

    Args:
        signature: Named in the errors.
        limit: Seconds.
        source: The decorator's time source; one with `call_later` rings the alarms, otherwise they ring by real time.
    """

    def __init__(self, signature: FunctionSignature, limit: float, source: Any) -> None:
        self._name = signature.qualname
        self.limit = limit
        later = getattr(source, "call_later", None)
        self.call_later: Callable[[float, Callable[[], object]], Cancellable] | None = (
            later if callable(later) else None
        )

    def error(self) -> ExecutionTimeout:
        """Return the error of a call that took too long."""
        return ExecutionTimeout(self._name, self.limit)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        """Run a plain function in another thread, and wait for it no longer than the limit.

        Returns:
            The job, with its value or its error.
        """
        job = Job(function, args, kwargs)
        alarm = self._alarm(job)
        try:
            if not started(job):
                job.run()  # no thread can be had any more: the program is ending
            job.wait(self.limit if alarm is None else None)
        finally:
            if alarm is not None:
                alarm.cancel()
        if job.is_late:
            job.expired = self.error()
        return job

    def _alarm(self, job: Job) -> Cancellable | None:
        try:
            return None if self.call_later is None else self.call_later(self.limit, job.give_up)
        except Exception as fault:  # noqa: BLE001 - the time source is the user's
            report(fault)
            return None

    def expired(self, inner: Any) -> ExecutionTimeout:
        """Close a generator that took too long, and return the error of its call."""
        error = self.error()
        try:
            inner.close()
        except Exception as failure:  # noqa: BLE001 - the generator's own way to end; the caller gets the timeout
            error.__cause__ = failure
        return error

    def task_alarm(self, running: float = 0.0) -> TaskAlarm:
        """Return an alarm for one stretch of a coroutine or async generator that has run for so long already."""
        return TaskAlarm(self, max(self.limit - running, 0.0))


class TaskAlarm:
    """Cancels what a task awaits when time is up: asyncio's `timeout`, or a cancel scope of trio.

    A coroutine that is driven by hand, without either, has no alarm.
    """

    def __init__(self, deadline: Deadline, seconds: float) -> None:
        self._deadline = deadline
        self._seconds = seconds
        self._timeout: Any = None
        self._scope: Any = None
        self._alarm: Cancellable | None = None
        self.expired: ExecutionTimeout | None = None

    async def start(self) -> None:
        """Let the time run; where nothing can ring, without an alarm."""
        try:
            await self._start()
        except RuntimeError:
            self._timeout = None  # a coroutine stepped by hand, though a loop is running
        except Exception as fault:  # noqa: BLE001 - the time source is the user's
            report(fault)

    async def _start(self) -> None:
        loop = running_loop()
        if loop is not None:
            self._timeout = sys.modules["asyncio"].timeout(None)
            await self._timeout.__aenter__()
            self._set_alarm(loop)
        elif (trio := running_trio()) is not None:
            self._scope = trio.move_on_after(self._seconds)
            self._scope.__enter__()

    def _set_alarm(self, loop: Any) -> None:
        timeout, later = self._timeout, self._deadline.call_later

        def ring() -> None:
            if self._timeout is timeout:
                timeout.reschedule(loop.time() - 1.0)

        if later is None:
            self._alarm = call_later(loop, self._seconds, ring)
        else:
            self._alarm = later(self._seconds, lambda: ring() if running_loop() is loop else called_soon(loop, ring))

    async def stop(self, error: BaseException | None = None) -> BaseException | None:
        """Stop the time; return the error of the call in place of the cancellation by which it was ended."""
        timeout, scope, alarm = self._timeout, self._scope, self._alarm
        self._timeout = self._scope = self._alarm = None
        if alarm is not None:
            alarm.cancel()
        trace = None if error is None else error.__traceback__
        try:
            if timeout is not None:
                await timeout.__aexit__(type(error), error, trace)
            elif scope is not None and scope.__exit__(None if error is None else type(error), error, trace):
                self._expire(error)
        except TimeoutError:
            self._expire(error)
        except Exception as fault:  # noqa: BLE001 - our own fault must not become the caller's
            report(fault)
        return self.expired or error

    def _expire(self, error: BaseException | None) -> None:
        self.expired = self._deadline.error()
        self.expired.__cause__ = error
