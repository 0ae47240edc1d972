"""The circuits of one function: a single one, or one for each key."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import refuse
from callpyback.core.forks import reset_after_fork
from callpyback.core.safe_repr import safe_repr
from callpyback.errors import NO_VALUE
from callpyback.guards.circuit import Circuit, Phase, Probe
from callpyback.guards.keyed import KeyedStates

if TYPE_CHECKING:
    from callpyback.core.functions import FunctionSignature
    from callpyback.core.state_machine import Outcome
    from callpyback.guards.circuit_board import Board

OVERFLOW: Final = "<overflow>"
"""The key of the circuit that all keys beyond the greatest number of keys share."""

_MAX_SHOWN: Final = 100


class OneCircuit(Circuit):
    """The circuit of a function without keys."""

    __slots__ = ("signature",)

    def __init__(self, function_signature: FunctionSignature, board: Board) -> None:
        super().__init__(board)
        self.signature = function_signature
        reset_after_fork(self)

    def circuit_at(self, key: Hashable) -> Circuit:
        """Return the circuit, for which there is no key."""
        if key is not NO_VALUE:
            refuse("key", key, f"none: the breaker of {self.board.function} was made without key=")
        return self

    def every(self) -> list[Circuit]:
        """Return all circuits."""
        return [self]

    def keep(self, key: Hashable, circuit: Circuit) -> None:
        """See to it that a circuit that was changed is not forgotten; this one never is."""

    def get_metrics(self) -> dict[str, Any]:
        """Return state and counts."""
        return super().get_metrics() | self.board.get_counts()

    def reset_after_fork(self) -> None:
        """Go on in a forked child, where only one thread has survived."""
        self.board.renew_locks()
        self.forget_lost_probe()


_Token = tuple[Hashable, Circuit, Phase | Probe]


class KeyedCircuits:
    """The circuits of a function, one for each key."""

    def __init__(
        self,
        function_signature: FunctionSignature,
        board: Board,
        key_of: Callable[[tuple[Any, ...], dict[str, Any]], Hashable],
        max_keys: int,
    ) -> None:
        self.signature = function_signature
        self._board = board
        self._key_of = key_of
        self._max_keys = max_keys
        self._circuits: KeyedStates[Circuit] = KeyedStates(
            lambda: Circuit(board, NO_VALUE),
            is_idle=self._may_go,
            max_keys=max_keys,
            name=f"circuits of {board.function}",
        )
        reset_after_fork(self)

    def admit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Token:
        """Admit a call, or refuse it.

        Raises:
            CircuitOpen: The circuit of its key is open, or half-open and a probe is under way.
        """
        key = self._key_of(args, kwargs)
        circuit = self.circuit_at(key)
        return key, circuit, circuit.admit(args, kwargs)

    def end(
        self, elapsed: float, value: Any, exception: BaseException | None, outcome: Outcome, token: _Token | None
    ) -> None:
        """Learn from the end of a call."""
        # The token holds the circuit: as long as a call is under way, its circuit is not made anew.
        if token is not None and token[1].end(elapsed, value, exception, outcome, token[2]):
            self.keep(token[0], token[1])

    def circuit_at(self, key: Hashable) -> Circuit:
        """Return the circuit of a key."""
        if key is NO_VALUE:
            refuse("key", key, f"the key of a circuit: the breaker of {self._board.function} was made with key=")
        circuit = self._circuits.of(key)
        if circuit.key is NO_VALUE:
            circuit.key = OVERFLOW if circuit is self._circuits.shared else key
        return circuit

    def every(self) -> list[Circuit]:
        """Return all circuits."""
        return self._circuits.states()

    def keep(self, key: Hashable, circuit: Circuit) -> None:
        """See to it that a circuit that was changed is not forgotten."""
        self._circuits.keep(key, circuit)

    def get_metrics(self) -> dict[str, Any]:
        """Return counts, and the state of the circuits that are not closed."""
        not_closed = [circuit for circuit in self.every() if not circuit.phase.is_closed]
        shown = [{"key": safe_repr(circuit.key)} | circuit.get_metrics() for circuit in not_closed[:_MAX_SHOWN]]
        counts = {"keys": len(self._circuits), "not_closed": len(not_closed)}
        return self._board.get_counts() | counts | {"circuits": shown}

    def reset_after_fork(self) -> None:
        """Go on in a forked child, where only one thread has survived."""
        self._board.renew_locks()
        for circuit in self.every():
            circuit.forget_lost_probe()

    def _may_go(self, circuit: Circuit) -> bool:
        # One less: it is asked again when the circuit is already taken out.
        return circuit.is_idle or (len(self._circuits) >= self._max_keys - 1 and circuit.is_due)
