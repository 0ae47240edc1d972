"""Stop calling a function that keeps failing, and try it again after a while."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import (
    checked_count,
    checked_exception_classes,
    checked_seconds,
    looking_at,
    refuse,
)
from callpyback.core.functions import FunctionKind, FunctionSignature, full_name, kind_of
from callpyback.core.known import named_apart
from callpyback.errors import NO_VALUE, nearest
from callpyback.guards.base import KeyedGuard
from callpyback.guards.circuit_board import Board, CircuitChange, CircuitState, Limits
from callpyback.guards.circuits import KeyedCircuits, OneCircuit

if TYPE_CHECKING:
    from callpyback.guards.base import Guarded
    from callpyback.observers.parts.keys import Key


class CircuitBreakerObserver(KeyedGuard):
    """Refuses the calls of a function that keeps failing, and after a while tries it with a single one.

    A circuit begins **closed**: calls run side by side. `failure_threshold` counted failures in a row **open** it:
    calls are refused with `CircuitOpen`, whose `retry_after` says in seconds when the next one is admitted. When
    `recovery_time` has passed it is **half-open**: one call, the probe, is admitted, and the others are refused until
    it has ended. If it is answered the circuit closes, if it fails the circuit opens for another `recovery_time`.

    * *Failed* is a call whose body raised one of `on`, also if an error handler answered for it, and one whose deadline
      passed, if `on` covers `ExecutionTimeout`. With retries a call counts once, by its last error.
    * *Answered* is one that returned, or raised something else: then the service did answer. It ends the run of
      failures and closes a half-open circuit.
    * A call that was cancelled, abandoned or aborted, that another guard refused or answered, or that ran out of time
      where `on` does not cover `ExecutionTimeout`, decides nothing. If it was the probe, the next call is.
    * Calls admitted before the state last changed decide nothing either: a slow one that succeeds does not close the
      circuit that opened meanwhile, and one that fails does not keep it open.

    Of a recursive function, an exception counts at each level it passes. The calls that a probe makes of the function
    are refused like any others, and a probe that fails with such a refusal counts as answered.

    A probe that has not ended after `recovery_time`, at least 30 seconds, gives up its place, so
    that a body that hangs does not keep the circuit open for ever. Where the clock fails or goes back, the next call
    probes.

    Other libraries differ. `pybreaker` runs even the calls of a closed circuit one after the other, since it holds a
    lock while the function runs. `circuitbreaker` admits any number of calls once the recovery time has passed, and a
    call that began before the circuit opened may close it. An exception that is not counted is a success in both, as it
    is here and in MicroProfile Fault Tolerance. That a probe gives up its place is Hystrix's rule, which lets one call
    try each time the recovery time has passed.

    Each decorated function has its own circuit, with `key` one for each key. At most `max_keys` keys have circuits of
    their own; further ones share one. To make room, closed circuits without failures are forgotten, and open ones whose
    recovery time has passed. A forked child goes on with the state of its parent; the place of a probe in another
    thread is free there. Pickled, an observer starts anew, with all circuits closed.

    Changes are logged on the logger `callpyback`, at WARNING when a circuit opens and at INFO otherwise. A call through
    a closed circuit without failures takes no lock and reads no clock.

    Args:
        failure_threshold: How many failures in a row open a circuit.
        recovery_time: Seconds for which it is open, then.
        on: The exceptions that count as failures, a subclass of Exception or several. Those that are the caller's
            mistake should not be among them.
        key: Gives each value its own circuit, as `key=lambda arguments: arguments["host"]`; see `GuardObserver`.
        on_state_change: Called with a `CircuitChange` after each change, in their order; what it raises is logged.
        max_keys: The greatest number of keys with circuits of their own.
        priority: Higher is asked earlier.
        name: How it is shown.
        critical: Refuse the call if the guard itself fails, as when `key` raises.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from callpyback import CallPyBack, MockTimeSource
        >>> clock = MockTimeSource()
        >>> breaker = CircuitBreakerObserver(failure_threshold=2, recovery_time=30, on=ConnectionError)
        >>> @CallPyBack(observers=[breaker], time_source=clock)
        ... def fetch(answer):
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> for attempt in range(3):
        ...     try:
        ...         fetch(ConnectionError("no route"))
        ...     except Exception as error:
        ...         print(type(error).__name__, getattr(error, "retry_after", None))
        ConnectionError None
        ConnectionError None
        CircuitOpen 30.0
        >>> clock.advance(30)
        >>> str(breaker.state(fetch)), fetch("page"), str(breaker.state(fetch))
        ('half-open', 'page', 'closed')
    """

    @property
    def is_leaf(self) -> bool:
        """Never: its callback, and the handlers of its log, are the user's."""
        return False

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_time: float = 30.0,
        on: type[Exception] | Iterable[type[Exception]] = Exception,
        key: Key | None = None,
        *,
        on_state_change: Callable[[CircuitChange], object] | None = None,
        max_keys: int = 10_000,
        priority: float = 80,
        name: str | None = None,
        critical: bool = False,
    ) -> None:
        super().__init__(key=key, max_keys=max_keys, priority=priority, name=name, critical=critical)
        self._limits = Limits(
            checked_count("failure_threshold", failure_threshold),
            checked_seconds("recovery_time", recovery_time, zero=True),
            _checked_on(on),
        )
        self._on_state_change = _checked_callback(on_state_change)

    def guarding(self, function_signature: FunctionSignature, clock: Callable[[], float]) -> Guarded:
        """Return the circuit or circuits of one function."""
        has_keys = self.key is not None
        board = Board(
            full_name(function_signature),
            self._limits,
            clock,
            on_state_change=self._on_state_change,
            has_keys=has_keys,
        )
        if not has_keys:
            return OneCircuit(function_signature, board)
        return KeyedCircuits(function_signature, board, self.keyed_by(function_signature), self.max_keys)

    def state(self, function: Callable[..., Any] | str | None = None, *, key: Hashable = NO_VALUE) -> CircuitState:
        """Return the state of a circuit: "closed", "open", or "half-open" as soon as its recovery time has passed.

        Args:
            function: The decorated function, or its name as in `get_metrics`; not needed if there is only one.
            key: The key, if there are keys.

        Raises:
            LookupError: There is no such function, or there are several.
            ConfigurationError: A key is missing, or there are no keys.
        """
        found = self._found(function)
        if len(found) != 1:
            message = f"state(function={function!r}): {len(found)} functions are guarded, say which"
            raise LookupError(message)
        return found[0].circuit_at(key).state

    def trip(self, function: Callable[..., Any] | str | None = None, *, key: Hashable = NO_VALUE) -> None:
        """Open a circuit for its recovery time, whatever state it is in; after that it is half-open as ever.

        Args:
            function: The decorated function, or its name; all functions by default.
            key: The key, if there are keys.

        Raises:
            LookupError: There is no such function.
            ConfigurationError: A key is missing, or there are no keys.
        """
        for circuits in self._found(function):
            circuit = circuits.circuit_at(key)
            circuit.trip()
            circuits.keep(key, circuit)

    def reset(self, function: Callable[..., Any] | str | None = None, *, key: Hashable = NO_VALUE) -> None:
        """Close circuits and forget their failures.

        Args:
            function: The decorated function, or its name; all functions by default.
            key: The key, if there are keys; all keys by default.

        Raises:
            LookupError: There is no such function.
            ConfigurationError: There are no keys.
        """
        for circuits in self._found(function):
            chosen = circuits.every() if key is NO_VALUE else [circuits.circuit_at(key)]
            for circuit in chosen:
                circuit.reset()

    def get_metrics(self) -> dict[str, Any]:
        """Return under `functions` what is known about each guarded function that still exists, by its name.

        For each: `opened` (how often its circuits did), `refused` and `probes` (calls), and for its circuit the
        `state`, the `failures_in_a_row` and `seconds_until_probe`, None while it is closed. With keys, these three are
        under `circuits`, with the `key` as text, for up to 100 circuits that are not closed; `not_closed` counts them,
        and `keys` is how many circuits are kept.
        """
        return super().get_metrics()

    def _found(self, function: Any) -> list[OneCircuit | KeyedCircuits]:
        guarded: list[tuple[Any, str]] = list(self._guarded.items())
        if function is None:
            return [circuits for circuits, _ in guarded]
        name = function
        if not isinstance(function, str):
            plain = getattr(function, "__func__", function)
            own = [circuits for circuits, _ in guarded if circuits.signature.wrapper is plain]
            if own:
                return own
            name = full_name(FunctionSignature.of(function))
        named = named_apart((name, circuits) for circuits, name in guarded)
        if name not in named:
            message = f"no function {name!r} is guarded by {self.name!r}{nearest(name, named)}"
            raise LookupError(message)
        return [named[name]]


def _checked_on(on: Any) -> tuple[type[Exception], ...]:
    with looking_at("on", on):
        classes = checked_exception_classes(on, "on")
        return classes or refuse("on", on, "at least one Exception subclass; without any, no circuit would ever open")


def _checked_callback(callback: Any) -> Callable[[CircuitChange], object] | None:
    with looking_at("on_state_change", callback):
        if callback is not None and not callable(callback):
            refuse("on_state_change", callback, "a function of one CircuitChange, or None")
        if callback is not None and kind_of(callback) is not FunctionKind.FUNCTION:
            refuse("on_state_change", callback, "a plain function: it is called where nothing can be awaited")
        return callback  # type: ignore[no-any-return]
