"""The bridge from python-statemachine: the transitions of a machine."""

from __future__ import annotations

from typing import Any

from statemachine import StateChart

from callpyback.core.safe_repr import type_name
from callpyback.events.bridges.base import Bridge


def bridged(source: Any, to: Any, name: str | None) -> Bridge | None:
    """Return a bridge from a state machine; None of anything else."""
    if not isinstance(source, StateChart):
        return None
    bridge = Bridge(to, name, "state_machine.transition")
    listener = _Listener(bridge)
    source.add_listener(listener)  # type: ignore[no-untyped-call]
    return bridge.opened(listener.forget)


class _Listener:
    """What the machine tells. It has no attribute that the names of states and events might refer to by chance.

    A machine keeps its listeners; a copied or unpickled machine gets one that tells nobody.
    """

    __slots__ = ("__bridge",)

    def __init__(self, bridge: Bridge | None) -> None:
        self.__bridge = bridge

    def after_transition(self, machine: Any, event: Any, source: Any, target: Any) -> None:
        bridge = self.__bridge
        if bridge is None:
            return
        new = source if target is None else target

        def data() -> dict[str, Any]:
            return {"machine": type_name(machine), "event": str(event), "old": source.id, "new": new.id}

        bridge.tell(machine, (source, new), data)

    def forget(self) -> None:
        self.__bridge = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Listener, (None,)
