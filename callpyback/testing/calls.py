"""One recorded call: what was told of it, read as one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from callpyback.core.safe_repr import safe_repr, safe_text
from callpyback.testing.contexts import with_defaults

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext, ExecutionFailure, ExecutionResult
    from callpyback.core.state_machine import ExecutionState, Outcome

_SHOWN_LENGTH = 80


@dataclass(frozen=True, slots=True, repr=False)
class RecordedCall:
    """One call, as the recorder was told it.

    Args:
        contexts: What was told, in order; never empty.
    """

    contexts: tuple[ExecutionContext, ...]

    @property
    def _last(self) -> ExecutionContext:
        return self.contexts[-1]

    @property
    def name(self) -> str:
        """The qualified name of the function."""
        return self._last.function_signature.qualname

    @property
    def call_id(self) -> str:
        """The `call_id` of its contexts."""
        return self._last.call_id

    @property
    def parent_call_id(self) -> str | None:
        """The `call_id` of the call that it was made in; None at the top."""
        return self._last.parent_call_id

    @property
    def depth(self) -> int:
        """How many calls were around it."""
        return self._last.depth

    @property
    def tags(self) -> dict[Any, Any]:
        """What the body has said of the call, as told last."""
        return self._last.tags

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name, as they were when the call was first told."""
        return self.contexts[0].arguments

    @property
    def instance(self) -> object | None:
        """The `self` or `cls` of a method call."""
        return self._last.instance

    @property
    def states(self) -> list[ExecutionState]:
        """The states told, in order."""
        return [context.state for context in self.contexts]

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None if that has not been told."""
        return self._last.outcome

    @property
    def result(self) -> ExecutionResult | ExecutionFailure | None:
        """The result told last."""
        return self._last.result

    @property
    def value(self) -> Any:
        """What the body, or the observer that answered for it, gave; None otherwise."""
        return None if self.result is None else self.result.value

    @property
    def exception(self) -> BaseException | None:
        """What the body raised, or what refused the call: the object itself."""
        return None if self.result is None else self.result.exception

    @property
    def returned(self) -> Any:
        """What a handler or guard gave the caller."""
        return self._last.returned

    @property
    def execution_time(self) -> float | None:
        """Seconds the body ran; None if its end has not been told."""
        return self._last.execution_time

    def was_called_with(self, arguments: dict[str, Any]) -> bool:
        """Return whether these were all its arguments; those left out must have had their defaults."""
        return with_defaults(self._last.function_signature, arguments) == self.arguments

    def __repr__(self) -> str:
        given = shown_arguments(self.arguments)
        told = " ".join(state.name for state in self.states)
        outcome = "" if self.outcome is None else f", {self.outcome.name}"
        end = "" if self.result is None else f", gave {safe_repr(self.value, _SHOWN_LENGTH)}"
        if self.exception is not None:
            end = f", {safe_text(self.exception, _SHOWN_LENGTH)}"
        return f"{self.name}({given}): {told}{outcome}{end}"


def shown_arguments(arguments: dict[str, Any]) -> str:
    """Return the arguments as they would be written in a call, each of them bounded."""
    return ", ".join(f"{name}={safe_repr(value, _SHOWN_LENGTH)}" for name, value in arguments.items())
