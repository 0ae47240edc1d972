"""Everything one call needs to know about who watches it, fixed when the call begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.call import Call
from callpyback.core.state_machine import ExecutionState, Notice
from callpyback.core.tracking import TRACKING

if TYPE_CHECKING:
    from callpyback.core.deadlines import Deadline
    from callpyback.core.functions import Target
    from callpyback.core.health import Patient
    from callpyback.core.listener import Listener
    from callpyback.core.policy import ErrorPolicy
    from callpyback.core.time_sources import Sleeper

Clock = Callable[[], float]


class Plan:
    """Who is told what around one function. Never changed: replaced when an observer comes or goes.

    `shape` names the code that fits it (see `wrappers.py`); a wrapper that meets a plan of another shape
    fetches the code that does.
    """

    is_empty = False

    def __init__(
        self,
        target: Target,
        listeners: Iterable[Listener],
        *,
        policy: ErrorPolicy,
        clocks: tuple[Clock, Clock],
        system_time: bool,
        binding: Any,
        ailing: set[Patient],
        deadline: Deadline | None = None,
        sleeper: Sleeper | None = None,
    ) -> None:
        self.shape = 0
        self.told: tuple[Any, ...] = ()
        self.loops: dict[ExecutionState, tuple[Any, ...]] = {}
        self.target = target
        self.policy = policy
        self.clocks = clocks
        self.clock = clocks[1]
        self.system_time = system_time
        self.binding = binding
        self.ailing = ailing
        self.deadline = deadline
        self.sleeper = sleeper
        self.uses_slots = False
        self.tracks = TRACKING.is_on
        told = list(listeners)
        self.registrations = frozenset(listener.registration for listener in told)
        self.keeps_slots = any(listener.registration.delivers_later for listener in told)
        self.shows_contexts = policy.answers or any(
            not listener.is_bound or (policy.retries and listener.registration.notices) for listener in told
        )
        self.is_async = any(listener.is_async for listener in told)
        self.listeners: dict[ExecutionState | Notice, tuple[Listener, ...]] = {
            state: tuple(listener for listener in told if state in listener.tells)
            for state in (*ExecutionState, *Notice)
        }

    def __reduce__(self) -> Any:
        return _stale, ()  # a wrapper that is unpickled elsewhere makes its plan there


class _NoPlan(Plan):
    """Stands for having no plan; copies and pickles as itself."""

    def __init__(self, name: str, *, shape: int, is_empty: bool) -> None:
        self._name = name
        self.shape = shape
        self.is_empty = is_empty
        self.ailing = set()

    def __reduce__(self) -> str:
        return self._name


EMPTY: Final = _NoPlan("EMPTY", shape=0, is_empty=True)
"""Nobody listens: the wrapper does nothing but call."""

STALE: Final = _NoPlan("STALE", shape=-1, is_empty=False)
"""Something has changed: no code fits, so the next call fetches the new plan."""


def _stale() -> Plan:
    return STALE


def called(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Return the record of a call that begins now."""
    call = Call()
    call.plan, call.args, call.kwargs = plan, args, kwargs
    call.elapsed, call.value, call.outcome = 0.0, None, None
    if not plan.system_time:
        call.begin_at(plan.clocks[0]())
    return call
