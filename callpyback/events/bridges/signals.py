"""The bridge from psygnal: signals of instances, groups of them, and evented objects."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from psygnal import EmissionInfo, Signal, SignalGroup, SignalInstance, get_evented_namespace

from callpyback.core.configuration import refuse
from callpyback.core.safe_repr import safe_repr, type_name
from callpyback.events.bridges.base import Bridge


def bridged(source: Any, to: Any, name: str | None) -> Bridge | None:
    """Return a bridge from a signal, a group of signals or an evented object; None of anything else."""
    if isinstance(source, Signal):
        refuse("source", source, "a signal of an instance; this one belongs to the class")
    if isinstance(source, SignalInstance):
        return _from_signal(source, to, name)
    if isinstance(source, SignalGroup):
        return _from_group(source, lambda: _owner_of(source), to, name)
    group = getattr(source, get_evented_namespace(source) or "events", None)
    return _from_group(group, _weakly(source), to, name) if isinstance(group, SignalGroup) else None


def _from_signal(signal: SignalInstance, to: Any, name: str | None) -> Bridge:
    owner = _owner_of(signal)
    bridge = Bridge(to, name, signal.name if owner is signal else f"{type_name(owner)}.{signal.name}")

    def tell(*values: Any) -> None:
        bridge.tell(_owner_of(signal), values, lambda: {"args": values})

    signal.connect(tell, check_nargs=False)
    return bridge.opened(lambda: signal.disconnect(tell))


def _from_group(group: SignalGroup, owner: Callable[[], Any], to: Any, name: str | None) -> Bridge:
    bridge = Bridge(to, name, type_name(owner()))

    def tell(info: EmissionInfo) -> None:
        bridge.tell(owner(), (info,), lambda: _data_of(info), f"{bridge.name}.{info.signal.name}")

    group.connect(tell, check_nargs=False)
    return bridge.opened(lambda: group.disconnect(tell))


def _owner_of(signals: SignalInstance | SignalGroup) -> Any:
    """Return whose signals these are: an instance, or the group itself if it belongs to none that it knows."""
    owner = signals.instance
    if isinstance(owner, SignalGroup):
        return _owner_of(owner)
    return signals if owner is None else owner


def _weakly(source: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(source)
    except TypeError:
        return lambda: source


def _data_of(info: EmissionInfo) -> dict[str, Any]:
    data: dict[str, Any] = {"args": info.args}
    if info.path:
        data["path"] = "".join(map(safe_repr, info.path))
    return data
