"""One circuit: closed, open or half-open, and what moves it from one state to the other.

The pattern is Michael Nygard's ("Release It!", 2007), with the three states as Martin Fowler drew them
(https://martinfowler.com/bliki/CircuitBreaker.html).
"""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.safe_repr import type_name
from callpyback.core.state_machine import Outcome
from callpyback.errors import CircuitOpen, ExecutionTimeout
from callpyback.guards.circuit_board import CircuitChange, CircuitState

if TYPE_CHECKING:
    from callpyback.guards.circuit_board import Board

PROBE_PATIENCE: Final = 30.0
"""Seconds a probe holds its place at least, if it does not end."""

_CLOSED, _OPEN, _HALF_OPEN = CircuitState
_SUCCESS: Final = Outcome.SUCCESS
_BODY_RAISED: Final = frozenset({Outcome.FAILURE, Outcome.HANDLED, Outcome.TIMED_OUT})


class Phase:
    """A stretch of time that a circuit spends in one state. Calls hold it, to be told from those of other stretches."""

    __slots__ = ("failures", "is_closed", "probe", "since", "state")

    def __init__(self, state: CircuitState, failures: int = 0, since: float = math.nan) -> None:
        self.state = state
        self.is_closed = state is _CLOSED
        self.failures = failures  # in a row
        self.since = since  # when it opened
        self.probe: Probe | None = None


class Probe:
    """The call that a half-open circuit has admitted."""

    __slots__ = ("phase", "since", "thread")

    def __init__(self, phase: Phase, since: float) -> None:
        self.phase = phase
        self.since = since
        self.thread = threading.get_ident()


class _Verdict(enum.Enum):
    """What the end of a call says about the function."""

    FAILED = "failed"
    ANSWERED = "answered"
    NOTHING = "nothing"


class Circuit:
    """A circuit around one function, or around the calls of it that have the same key.

    A closed circuit without failures costs a call two reads of attributes: no lock, no clock. An open one refuses
    without a lock.

    Args:
        board: What it shares with the other circuits of the function.
        key: Its key, if there are keys.
    """

    __slots__ = ("__weakref__", "_refusal", "board", "key", "phase")

    def __init__(self, board: Board, key: Hashable = None) -> None:
        self.key = key
        self.phase = Phase(_CLOSED)
        self.board = board
        self._refusal = f"the circuit of {board.function} is "

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Phase | Probe:  # noqa: ARG002 - as any guard
        """Admit a call, or refuse it.

        Raises:
            CircuitOpen: It is open, or half-open and a probe is under way.
        """
        phase = self.phase
        return phase if phase.is_closed else self._admitted()

    def end(
        self,
        _elapsed: float,
        _value: Any,
        exception: BaseException | None,
        outcome: Outcome,
        token: Phase | Probe | None,
    ) -> bool:
        """Learn from the end of a call; return whether it can have changed anything."""
        phase = self.phase
        if token is phase:
            if not phase.failures if outcome is _SUCCESS else outcome not in _BODY_RAISED:
                return False
        elif type(token) is not Probe:
            return False  # it was refused, or it began in another stretch of time
        verdict, now = _Verdict.NOTHING, math.nan
        try:
            verdict = self._verdict(exception, outcome)
            if verdict is _Verdict.FAILED:
                now = self.board.clock()
        finally:
            self._learn(token, verdict, now, exception)
        self.board.announce()
        return True

    def trip(self) -> None:
        """Open it now; calls under way decide nothing any more."""
        now = self.board.clock()
        with self.board.lock:
            self._turn(_OPEN, "tripped by hand", failures=self.phase.failures, since=now)
        self.board.announce()

    def reset(self) -> None:
        """Close it now and forget its failures; calls under way decide nothing any more."""
        with self.board.lock:
            self._turn(_CLOSED, "reset by hand")
        self.board.announce()

    @property
    def state(self) -> CircuitState:
        """The state as the next call finds it: half-open as soon as the recovery time has passed."""
        phase = self.phase
        if phase.state is _OPEN and self._wait(phase, self.board.clock()) is None:
            return _HALF_OPEN
        return phase.state

    @property
    def is_idle(self) -> bool:
        """Whether it can't be told from a new one."""
        phase = self.phase
        return phase.is_closed and not phase.failures

    @property
    def is_due(self) -> bool:
        """Whether the next call would be a probe."""
        phase = self.phase
        return not phase.is_closed and self._wait(phase, self.board.clock()) is None

    def get_metrics(self) -> dict[str, Any]:
        """Return the state, the failures in a row, and the seconds until a probe is admitted."""
        phase = self.phase
        wait = None if phase.is_closed else self._wait(phase, self.board.clock())
        state = _HALF_OPEN if phase.state is _OPEN and wait is None else phase.state
        seconds = None if phase.is_closed else wait or 0.0
        return {"state": str(state), "failures_in_a_row": phase.failures, "seconds_until_probe": seconds}

    def forget_lost_probe(self) -> None:
        """Free the place of a probe whose thread is not this one, which alone has survived a fork."""
        probe = self.phase.probe
        if probe is not None and probe.thread != threading.get_ident():
            self.phase.probe = None

    def _admitted(self) -> Phase | Probe:
        board = self.board
        while not (phase := self.phase).is_closed:
            # After the phase: an older reading would look as if the clock had gone back since the circuit opened.
            now = board.clock()
            wait = self._wait(phase, now)
            if wait is not None:
                next(board.refusals)
                raise CircuitOpen(self._refusal + _shown(phase, wait), retry_after=wait)
            probe = self._begin_probe(phase, now)
            if probe is not None:
                return probe
        return phase

    def _wait(self, phase: Phase, now: float) -> float | None:
        """Return the seconds a refused call had better wait; None if a call may probe.

        Where the clock failed or went back to before the circuit opened, a call may probe: a broken clock must not
        keep a circuit open. It takes no place away from a probe, though.
        """
        recovery_time = self.board.limits.recovery_time
        probe = phase.probe
        if probe is not None:
            is_lost = now - probe.since >= max(recovery_time, PROBE_PATIENCE)
            return None if is_lost else recovery_time
        waited = now - phase.since
        return recovery_time - waited if phase.state is _OPEN and 0 <= waited < recovery_time else None

    def _begin_probe(self, phase: Phase, now: float) -> Probe | None:
        """Take the place of the probe, unless another call was quicker."""
        board = self.board
        with board.lock:
            if self.phase is not phase or self._wait(phase, now) is not None:
                return None
            if phase.state is _OPEN:
                phase = self._turn(_HALF_OPEN, "a probe is admitted", failures=phase.failures)
            probe = phase.probe = Probe(phase, now)
            board.probes += 1
        try:
            board.announce()
        except BaseException:
            self._learn(probe, _Verdict.NOTHING, math.nan, None)
            raise
        return probe

    def _verdict(self, exception: BaseException | None, outcome: Outcome) -> _Verdict:
        if outcome is _SUCCESS:
            return _Verdict.ANSWERED
        if outcome not in _BODY_RAISED:
            return _Verdict.NOTHING
        if isinstance(exception, self.board.limits.on):
            return _Verdict.ANSWERED if self._is_own_refusal(exception) else _Verdict.FAILED
        return _Verdict.NOTHING if isinstance(exception, ExecutionTimeout) else _Verdict.ANSWERED

    def _is_own_refusal(self, exception: Exception) -> bool:
        """Return whether a call was refused that a probe made of its own function.

        Counted as a failure, it would keep the circuit of a recursive function open for ever.
        """
        text: Any = exception.args[0] if type(exception) is CircuitOpen and exception.args else None
        return type(text) is str and text.startswith(self._refusal)

    def _learn(
        self, token: Phase | Probe | None, verdict: _Verdict, now: float, exception: BaseException | None
    ) -> None:
        with self.board.lock:
            phase = self.phase
            if token is phase:
                self._count(phase, verdict, now, exception)
            elif type(token) is Probe and token.phase is phase:
                if verdict is _Verdict.FAILED:
                    reason = f"the probe failed with {type_name(exception)}"
                    self._turn(_OPEN, reason, failures=phase.failures + 1, since=now)
                elif verdict is _Verdict.ANSWERED:
                    self._turn(_CLOSED, "the probe was answered")
                elif phase.probe is token:
                    phase.probe = None

    def _count(self, phase: Phase, verdict: _Verdict, now: float, exception: BaseException | None) -> None:
        if verdict is _Verdict.ANSWERED:
            phase.failures = 0
        elif verdict is _Verdict.FAILED:
            phase.failures = failures = phase.failures + 1
            if failures >= self.board.limits.failure_threshold:
                reason = f"failures in a row: {failures}, the last: {type_name(exception)}"
                self._turn(_OPEN, reason, failures=failures, since=now)

    def _turn(self, after: CircuitState, reason: str, *, failures: int = 0, since: float = math.nan) -> Phase:
        """Begin another phase; the lock is held."""
        board, before = self.board, self.phase
        before.probe = None  # no cycle is left behind
        self.phase = phase = Phase(after, failures, since)
        if after is not before.state:
            board.opened += after is _OPEN
            board.changes.append(CircuitChange(board.function, self.key, before.state, after, reason))
        return phase


def _shown(phase: Phase, wait: float) -> str:
    if phase.state is _HALF_OPEN:
        return "half-open, and its probe has not ended"
    return f"open; a call is admitted again in {wait:.3g} s"
