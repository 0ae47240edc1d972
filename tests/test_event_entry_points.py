"""Handlers from entry points: loaded by their names, each for itself."""

from __future__ import annotations

import importlib
import sys

import pytest

from callpyback import ConfigurationError, Event, EventBus

APP = """
from callpyback import requires

def test_prepare(proc, ev):
    ev.shared.tests.args = (1, 2)

@requires("test_prepare")
def test_run(proc, ev):
    ev.ctxt.append((ev.shared.tests.args, getattr(ev.shared.tests, "auxiliary", [])))
"""
OTHER = """
from callpyback import required_by, requires

@required_by("test_run")
@requires("test_prepare")
def test_auxiliary(proc, ev):
    ev.shared.tests.auxiliary = ["result"]
"""
BROKEN = "raise RuntimeError('broken package')"
WATCHING = """
class Watching:
    def on_event(self, event):
        event.ctxt.append("watched")
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package of one module, with entry points, for this test."""
    names = []

    def install(module, source, **points):
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {value}" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[app.handlers]\n{lines}\n")
        names.append(module)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    for name in names:
        sys.modules.pop(name, None)


def test_handlers_of_several_packages_work_together(installed):
    installed("evproc_app", APP, test_prepare="evproc_app:test_prepare", test_run="evproc_app:test_run")
    installed("evproc_other", OTHER, test_auxiliary="evproc_other:test_auxiliary")
    bus = EventBus()
    loaded = bus.load_entry_points("app.handlers")
    assert (loaded.registered, loaded.failed) == (("test_auxiliary", "test_prepare", "test_run"), {})
    got = []

    bus.emit(Event("x", ctxt=got))
    assert got == [((1, 2), ["result"])]


def test_name_is_that_of_the_entry_point(installed):
    installed("evproc_named", APP, prepare="evproc_named:test_prepare")
    bus = EventBus()
    bus.load_entry_points("app.handlers")
    assert list(bus.health) == ["prepare"]


def test_class_is_made_an_observer(installed):
    installed("evproc_watching", WATCHING, watching="evproc_watching:Watching")
    bus = EventBus()
    assert bus.load_entry_points("app.handlers").registered == ("watching",)
    assert type(bus.get_registered_observers()[0]).__name__ == "Watching"


def test_what_can_not_be_loaded_is_told_and_logged_and_the_others_are_registered(installed, caplog):
    installed("evproc_broken", BROKEN, broken="evproc_broken:handler")
    installed("evproc_partly", APP, missing="evproc_partly:nothing", number="evproc_partly:__name__")
    installed("evproc_whole", APP, test_prepare="evproc_whole:test_prepare")
    bus = EventBus()
    loaded = bus.load_entry_points("app.handlers")
    assert loaded.registered == ("test_prepare",)
    assert loaded.failed["broken"] == "RuntimeError: broken package"
    assert loaded.failed["missing"].startswith("AttributeError: ")
    assert loaded.failed["number"].startswith("ConfigurationError: handler=")
    assert len(caplog.records) == 3
    assert "entry point broken = evproc_broken:handler of app.handlers is not registered" in caplog.text


def test_taken_name_is_a_failure_of_the_later_one(installed):
    installed("evproc_one", APP, handler="evproc_one:test_prepare")
    installed("evproc_two", APP, handler="evproc_two:test_prepare")
    bus = EventBus()
    loaded = bus.load_entry_points("app.handlers")
    assert loaded.registered == ("handler",)
    assert "name='handler'" in loaded.failed["handler"]


def test_loading_twice_registers_nothing_twice(installed):
    installed("evproc_twice", APP, prepare="evproc_twice:test_prepare")
    bus = EventBus()
    bus.load_entry_points("app.handlers")
    assert list(bus.load_entry_points("app.handlers").failed) == ["prepare"]
    assert len(bus.get_registered_observers()) == 1


def test_group_that_nobody_offers_is_empty():
    loaded = EventBus().load_entry_points("nobody.offers.this")
    assert (loaded.registered, loaded.failed) == ((), {})


@pytest.mark.parametrize("group", ["", None, 7])
def test_group_that_is_no_name_is_refused(group):
    with pytest.raises(ConfigurationError, match="group="):
        EventBus().load_entry_points(group)
