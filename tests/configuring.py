"""What the tests of observers by name share."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from callpyback import BaseObserver, ConfigurationError
from callpyback.config import registry


class Probe(BaseObserver):
    """Keeps what it was made with."""

    made: ClassVar[list[Probe]] = []

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options
        self.closed = 0
        self.seen = []
        Probe.made.append(self)

    def update(self, context) -> None:
        self.seen.append((context.function_signature.name, context.state.name))

    def close(self) -> None:
        self.closed += 1


class Gauge(Probe):
    """Has options of several types."""

    def __init__(
        self,
        label: str = "gauge",
        limit: int = 10,
        ratio: float = 0.5,
        on: bool = False,
        parts: list[str] | None = None,
        api_key: str | None = None,
        untyped=3,
    ) -> None:
        if limit < 0:
            raise ValueError(f"limit={limit} with {label} and {api_key}: expected one from 0 on")
        super().__init__(label=label, limit=limit, ratio=ratio, on=on, parts=parts, api_key=api_key, untyped=untyped)


class Wrapper(Probe):
    """Holds other observers."""

    def __init__(self, observer: Any = None, observers: Any = ()) -> None:
        super().__init__(observer=observer, observers=observers)
        self.observer = observer


@pytest.fixture
def registered(monkeypatch):
    """Give the probes names, for one test."""
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
    monkeypatch.setattr(Probe, "made", [])
    for name, cls in {"probe": Probe, "gauge": Gauge, "wrapper": Wrapper}.items():
        registry.register_observer_type(name, cls)
    return registry


def refused(action, *arguments, **options) -> str:
    """Return the message of the refusal."""
    with pytest.raises(ConfigurationError) as caught:
        action(*arguments, **options)
    return str(caught.value)
