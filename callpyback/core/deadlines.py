"""`max_execution_time`: what ends a body that takes too long, for each kind of callable."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from callpyback.core.raised import Untouched
from callpyback.core.reporting import report
from callpyback.core.waiting import call_later, called_soon, running_loop, running_trio
from callpyback.core.workers import Job, started
from callpyback.errors import ExecutionTimeout

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.core.waiting import Cancellable


Later = Callable[[float, Callable[[], object]], Any]


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
        later: Any = getattr(source, "call_later", None)
        self.call_later: Later | None = cast("Later", later) if callable(later) else None

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
        return None if self.call_later is None else self.alarm(self.call_later, self.limit, job.give_up)

    def alarm(self, later: Later, seconds: float, callback: Callable[[], object]) -> Cancellable | None:
        """Have the time source ring, or return None if it can't: then real time counts."""
        try:
            alarm: Cancellable = later(seconds, callback)
            _ = alarm.cancel
        except Exception as fault:  # noqa: BLE001 - the time source is the user's
            report(fault)
            return None
        return alarm

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
        left = self.limit - running
        return TaskAlarm(self, left if left > 0.0 else 0.0 if left <= 0.0 else self.limit)  # nan: the clock failed


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
            if (loop := running_loop()) is not None:
                await self._start_in(loop)
            elif (trio := running_trio()) is not None:
                self._start_in_trio(trio)
        except RuntimeError:
            self._timeout = None  # a coroutine stepped by hand, though a loop is running

    async def _start_in(self, loop: Any) -> None:
        timeout = self._timeout = sys.modules["asyncio"].timeout(None)
        await timeout.__aenter__()

        def ring() -> None:
            if self._timeout is timeout:
                timeout.reschedule(loop.time() - 1.0)

        def ring_soon() -> None:
            ring() if running_loop() is loop else called_soon(loop, ring)

        later = self._deadline.call_later
        self._alarm = None if later is None else self._deadline.alarm(later, self._seconds, ring_soon)
        if self._alarm is None:
            self._alarm = call_later(loop, self._seconds, ring)

    def _start_in_trio(self, trio: Any) -> None:
        token = trio.lowlevel.current_trio_token()
        scope = trio.CancelScope()

        def ring_soon() -> None:
            if running_trio() is not None and trio.lowlevel.current_trio_token() is token:
                scope.cancel()
                return
            try:
                token.run_sync_soon(scope.cancel)
            except trio.RunFinishedError:
                pass  # nobody waits there any more

        later = self._deadline.call_later
        self._alarm = None if later is None else self._deadline.alarm(later, self._seconds, ring_soon)
        if self._alarm is None:
            scope = trio.move_on_after(self._seconds)
        self._scope = scope
        scope.__enter__()

    async def stop(self, error: BaseException | None = None) -> BaseException | None:
        """Stop the time; return the error of the call in place of the cancellation by which it was ended."""
        timeout, scope, alarm = self._timeout, self._scope, self._alarm
        self._timeout = self._scope = self._alarm = None
        if alarm is not None:
            alarm.cancel()
        if timeout is None and scope is None:
            return error
        kept = None if error is None else Untouched(error)
        trace = None if error is None else error.__traceback__
        try:
            if timeout is not None:
                await timeout.__aexit__(type(error), error, trace)
            elif scope.__exit__(None if error is None else type(error), error, trace):
                self._expire(error)
        except TimeoutError:
            self._expire(error)
        except BaseException as left:  # noqa: BLE001 - a group of trio's, without the cancellation
            return left
        if kept is not None:
            kept.restore()
        return error if self.expired is None else self.expired

    def _expire(self, error: BaseException | None) -> None:
        self.expired = self._deadline.error()
        self.expired.__cause__ = error
