"""Where an instance keeps what belongs to it and to an attribute of its class: in its `__dict__`, or in a slot.

Not in a dictionary beside the instances, weak or not: what is kept here usually refers to its instance, which would
then live as long as the dictionary.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from callpyback.core.forks import reset_after_fork
from callpyback.core.safe_repr import type_name
from callpyback.errors import ConfigurationError


class InstancePlace:
    """The place in one instance for one hook.

    Args:
        instance: Any object.
        attribute: The name of the class attribute.
    """

    def __init__(self, instance: object, attribute: str) -> None:
        self._instance = instance
        self._attribute = attribute
        self._slot = f"_{attribute}_hook"

    def read(self) -> Any:
        """Return what is there; None if nothing."""
        try:
            return self._instance.__dict__.get(self._attribute)
        except AttributeError:
            return getattr(self._instance, self._slot, None)

    def write(self, hook: object) -> None:
        """Put a hook there.

        Raises:
            ConfigurationError: There is no place in the instance.
        """
        try:
            attributes = self._instance.__dict__
        except AttributeError:
            attributes = None
        try:
            if attributes is None:
                object.__setattr__(self._instance, self._slot, hook)  # a frozen dataclass has its own
            else:
                attributes[self._attribute] = hook
        except (AttributeError, TypeError) as error:
            message = (
                f"hook {self._attribute!r} has no place in instances of {type_name(self._instance)}: add the slot "
                f"{self._slot!r} to its __slots__"
            )
            raise ConfigurationError(message) from error


class _Making:
    """The lock under which instances get their hooks; emitting never needs it."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        self.lock = threading.RLock()


MAKING: Final = _Making()
