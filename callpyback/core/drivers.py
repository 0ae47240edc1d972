"""What drives the stretches of a call: plainly where nothing is awaited, otherwise in the caller's own task.

Neither driver lets an error of ours out: the function's outcome is its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callpyback.core.raised import ObserverExit
from callpyback.core.reporting import report

if TYPE_CHECKING:
    from callpyback.core.call import Call
    from callpyback.core.dispatch import Steps


def run(steps: Steps) -> None:
    """Drive a stretch in which nothing is awaited."""
    try:
        for _ in steps:
            pass
    except Exception as fault:  # noqa: BLE001 - our own fault must not become the caller's
        try:
            report(fault)
        except Exception:  # noqa: BLE001, S110 - near the recursion limit not even that can be called
            pass


async def complete(call: Call, steps: Steps) -> None:
    """Drive a stretch, awaiting what async observers want awaited in the caller's own task."""
    try:
        wanted = next(steps, None)
        while wanted is not None:
            failure: BaseException | None = None
            result: Any = None
            try:
                result = await wanted
            except BaseException as error:  # noqa: BLE001 - `told` judges it
                failure = error
            # After the `except`: what is told now must not see this exception as the one being handled.
            if failure is not None and _is_closing(failure):
                # Nothing can be awaited any more: the rest is told without async observers.
                call.closing, call.interrupt, failure = True, failure, None
            wanted = _sent(steps, result) if failure is None else _thrown(steps, failure)
            failure = result = None  # its traceback may hold this frame
    except Exception as fault:  # noqa: BLE001 - our own fault must not become the caller's
        try:
            report(fault)
        except Exception:  # noqa: BLE001, S110 - near the recursion limit not even that can be called
            pass


def _is_closing(error: BaseException) -> bool:
    """Return whether our own coroutine is being closed; a GeneratorExit that an observer raised came from its frame."""
    trace = error.__traceback__
    return isinstance(error, GeneratorExit) and (trace is None or trace.tb_next is None)


def _sent(steps: Steps, result: Any) -> Any:
    try:
        return steps.send(result)
    except StopIteration:
        return None


def _thrown(steps: Steps, error: BaseException) -> Any:
    try:
        return steps.throw(ObserverExit(error) if isinstance(error, GeneratorExit) else error)
    except StopIteration:
        return None
    finally:
        del error  # its traceback may hold this frame
