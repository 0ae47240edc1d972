"""One event is told to those who hear it, on its bus and on those above: in plain code, or awaiting async handlers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from callpyback.events.course import Course
from callpyback.events.emissions import emits
from callpyback.events.listener import UNWANTED

if TYPE_CHECKING:
    from callpyback.core.registration import Registration
    from callpyback.events.channel import Channel
    from callpyback.events.event import Event


@emits
def tell(lineage: Sequence[Channel], event: Event, course: Course | None) -> Course | None:
    """Tell one event; return the course of its emission, if anything has come of it yet."""
    if len(lineage) > 1:
        _solve(lineage)
    for channel in lineage:
        known = channel.ready.get(event.__class__)
        told = None if known is None else known.get(event.name)
        ailing = channel.ailing
        for registration, call, _, wants in channel.told(event) if told is None else told:
            if not registration.active and not _may_try(registration, wants, event):
                continue
            try:
                returned = call(event)
                if returned is not None and returned is not UNWANTED:
                    course = course or Course(lineage[0].max_returned_events)
                    course.take(returned, event)
            except BaseException as error:  # noqa: BLE001 - isolation is the purpose; `judge` sorts out what passes
                course = course or Course(lineage[0].max_returned_events)
                if course.judge(registration, error, event, channel.where):
                    return course
            else:
                if ailing and registration in ailing and returned is not UNWANTED:
                    registration.recover()
    return course


@emits
async def atell(lineage: Sequence[Channel], event: Event, course: Course | None) -> Course | None:
    """Do what `tell` does, one handler after the other, awaiting what is to be awaited."""
    _solve(lineage)
    for channel in lineage:
        ailing = channel.ailing
        for registration, _, call, wants in channel.told(event):
            if not registration.active and not _may_try(registration, wants, event):
                continue
            try:
                returned = call(event)
                if returned is not None and returned is not UNWANTED:
                    course = course or Course(lineage[0].max_returned_events)
                    if isawaitable(returned):
                        returned = await returned
                    if hasattr(returned, "__aiter__"):
                        returned = await course.collected(returned)
                    course.take(returned, event)
            except GeneratorExit:  # the coroutine that awaits this one is being closed
                raise
            except BaseException as error:  # noqa: BLE001 - see `tell`
                course = course or Course(lineage[0].max_returned_events)
                if course.judge(registration, error, event, channel.where):
                    return course
            else:
                if ailing and registration in ailing and returned is not UNWANTED:
                    registration.recover()
    return course


def _solve(lineage: Sequence[Channel]) -> None:
    """Find the order on every bus before anybody is told: one that there is not is no reason to stop half way."""
    for channel in lineage:
        channel.lineup()


def _may_try(registration: Registration, wants: Callable[[Event], Any] | None, event: Event) -> bool:
    """Return whether a paused handler is tried again with this event; one that it does not want is no trial."""
    if registration.retired:
        return False
    try:
        is_wanted = wants is None or wants(event)
    except Exception:  # noqa: BLE001 - it is tried, and fails
        is_wanted = True
    return bool(is_wanted) and registration.may_retry()
