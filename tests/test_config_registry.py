"""Names for observers: registered by a program, by installed packages, and the library's own."""

import importlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType

import pytest

from callpyback import BaseObserver, MetricsObserver, TimingObserver
from callpyback.config import (
    create_observer,
    register_observer_type,
    registered_observer_types,
    unregister_observer_type,
)
from callpyback.config.catalogue import BUILT_IN
from callpyback.config.registry import observer_type
from configuring import Gauge, Probe, Wrapper, refused, registered  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from nowhere import Unknown

pytestmark = pytest.mark.usefixtures("registered")


# The library's own


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_observer_of_the_library_has_a_short_name_and_options(name):
    kind = observer_type(name)
    assert issubclass(kind.cls, BaseObserver)
    assert {"priority", "name"} <= kind.schema.options.keys()


def test_an_observer_is_made_by_name():
    observer = create_observer("timing", threshold=0.25, max_slow=3)
    assert type(observer) is TimingObserver
    assert observer.threshold == 0.25


def test_options_given_in_code_arrive_as_the_same_objects():
    parts, others = ["a"], {1: ("of", "any", "kind")}
    assert create_observer("gauge", parts=parts).options["parts"] is parts
    assert create_observer("probe", others=others).options["others"] is others


def test_what_holds_itself_arrives_too():
    endless: list = []
    endless.append(endless)
    assert create_observer("probe", endless=endless).options["endless"] is endless


def test_nothing_is_imported_before_it_is_asked_for():
    code = """
        import sys
        import callpyback.config
        assert not any(name.startswith("callpyback.config.") for name in sys.modules), "the package itself"
        callpyback.config.registered_observer_types()
        wanted = {"structlog", "yaml", "callpyback.observers.metrics", "callpyback.guards.cache", "callpyback.sinks"}
        assert not wanted & set(sys.modules), wanted & set(sys.modules)
        callpyback.config.create_observer("metrics")
        assert "callpyback.observers.metrics" in sys.modules and "structlog" not in sys.modules
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_a_module_that_cannot_be_imported_is_told(monkeypatch):
    monkeypatch.setitem(BUILT_IN, "missing", "observers.nowhere:Missing")
    assert refused(create_observer, "missing") == (
        "observer type 'missing' can't be imported: ModuleNotFoundError: No module named "
        "'callpyback.observers.nowhere'; it may need something to be installed"
    )


# Registering


def test_the_seeds_observer_with_its_schema_is_registered_and_made():
    class MyCustomObserver(BaseObserver):
        def __init__(self, config: dict[str, Any] | None = None) -> None:
            super().__init__()
            self.config = config or {}
            self.processed_count = 0

        def update(self, context) -> None:
            self.processed_count += 1

    register_observer_type(
        "my_custom", MyCustomObserver, {"enabled": bool, "filter_patterns": list, "output_format": str}
    )
    observer = create_observer("my_custom", filter_patterns=["test.*"], output_format="json")
    assert observer.config == {"enabled": True, "filter_patterns": ["test.*"], "output_format": "json"}
    assert create_observer("my_custom", enabled=False).config == {"enabled": False}
    unknown, wrong = refused(create_observer, "my_custom", output_fromat=1, filter_patterns="test.*").splitlines()
    assert unknown.endswith("did you mean 'output_format'?; it has enabled, filter_patterns, output_format")
    assert wrong.endswith("option 'filter_patterns' of 'my_custom': expected a list, got 'test.*' (str)")


def test_a_function_that_returns_an_observer_is_registered_like_a_class():
    register_observer_type("slow", lambda limit=1.0: TimingObserver(limit))
    register_observer_type("partial", partial(TimingObserver, threshold=7.0))
    assert create_observer("slow", limit=2.0).threshold == 2.0
    assert create_observer("partial").threshold == 7.0


@pytest.mark.parametrize("name", ["", "1st", "a b", "os:system", "ä", "x" * 101, None, 5, b"x", ["x"], "x\n"])
def test_a_name_is_a_short_text_of_letters_and_digits(name):
    assert refused(register_observer_type, name, Probe).startswith("name=")
    assert refused(unregister_observer_type, name).startswith("name=")


@pytest.mark.parametrize("cls", [None, "shop.Observer", MetricsObserver(), 5])
def test_what_can_make_no_observer_is_refused(cls):
    assert refused(register_observer_type, "x", cls).startswith("cls=")


def test_an_instance_is_refused_with_its_class_as_the_way_out():
    assert "did you mean MetricsObserver?" in refused(register_observer_type, "x", MetricsObserver())


def test_a_class_that_needs_positional_arguments_is_refused():
    def positional(first, /) -> None: ...

    assert "its 'first' can't be given by keyword" in refused(register_observer_type, "x", positional)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ([("limit", int)], "expected None, or a mapping"),
        ({1: int}, "1 is no text"),
        ({"limit": "int"}, "for 'limit' a type, several as a tuple, or a check"),
        ({"limit": (int, 5)}, "5 is no type"),
        ({"limt": int}, "'limt' is none - did you mean 'limit'?; it has label, limit"),
    ],
)
def test_a_schema_that_says_nothing_usable_is_refused(schema, complaint):
    message = refused(register_observer_type, "x", Gauge, schema)
    assert message.startswith("schema=")
    assert complaint in message


def test_a_schema_without_what_the_constructor_needs_is_refused():
    def needy(url, label="x") -> None: ...

    assert "also 'url', which needy can't do without" in refused(register_observer_type, "x", needy, {"label": str})


def test_a_hostile_schema_is_refused():
    class Hostile(dict):
        def items(self):
            raise RuntimeError("no")

    assert "looking at it raised RuntimeError: no" in refused(register_observer_type, "x", Gauge, Hostile())


def test_a_name_that_is_taken_is_only_replaced_on_request():
    assert "this is registered: configuring.Probe; replace=True replaces it" in refused(
        register_observer_type, "probe", Gauge
    )
    register_observer_type("probe", Gauge, replace=True)
    assert type(create_observer("probe")) is Gauge


def test_the_librarys_own_names_are_only_replaced_on_request_and_come_back():
    assert "this is an observer of the library" in refused(register_observer_type, "metrics", Probe)
    register_observer_type("metrics", Probe, replace=True)
    assert type(create_observer("metrics")) is Probe
    unregister_observer_type("metrics")
    assert type(create_observer("metrics")) is MetricsObserver


def test_what_was_not_registered_cannot_be_taken_back():
    assert "did you mean 'probe'?" in refused(unregister_observer_type, "prob")
    assert refused(unregister_observer_type, "metrics").startswith("name='metrics'")


def test_replace_is_true_or_false():
    assert refused(register_observer_type, "x", Probe, replace="yes").startswith("replace='yes'")


def test_all_names_are_listed_in_order_with_their_origin():
    known = registered_observer_types()
    assert list(known) == sorted(known)
    assert known["probe"] == "registered: configuring.Probe"
    assert known["cache"] == "callpyback.guards.cache:CacheObserver"
    assert known.keys() >= BUILT_IN.keys()


def test_of_several_threads_that_register_one_name_one_succeeds():
    start, outcomes = threading.Barrier(8), []

    def register() -> None:
        start.wait()
        try:
            register_observer_type("contested", Probe)
        except ValueError:
            outcomes.append("refused")
        else:
            outcomes.append("registered")

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["registered"]


# Unknown names


def test_an_unknown_name_is_refused_with_the_nearest_one():
    assert refused(create_observer, "metrcs").startswith("unknown observer type 'metrcs' - did you mean 'metrics'?")


@pytest.mark.parametrize(
    "name", ["os.system", "subprocess:Popen", "callpyback.observers.metrics:MetricsObserver", "a/b"]
)
def test_an_import_path_is_no_name_and_nothing_is_imported(name):
    assert "a name is never imported" in refused(create_observer, name)


@pytest.mark.parametrize("name", [None, 5, b"metrics", MetricsObserver])
def test_the_name_is_a_text(name):
    assert refused(create_observer, name).startswith("name=")


def test_a_very_long_name_is_refused_in_a_short_message():
    assert len(refused(create_observer, "x" * 1_000_000)) < 1000


# Options, by the constructor's signature

Celsius = NewType("Celsius", float)


def options_of(make) -> dict[str, str]:
    register_observer_type("annotated", make, replace=True)
    return {name: option.expectation.text for name, option in observer_type("annotated").schema.options.items()}


def test_simple_annotations_say_what_an_option_may_be():
    def make(
        a: int,
        b: float,
        c: "str | None",
        d: bool,
        e: list[int],
        f: Mapping[str, float],
        g: Literal["x", "y", 3],
        h: Annotated[int, "seconds"],
        i: Celsius,
        j: tuple[str, ...],
        k: Iterable[str],
        l: bytes,  # noqa: E741
    ) -> None: ...

    assert options_of(make) == {
        "a": "a whole number",
        "b": "a number",
        "c": "a text or nothing (null)",
        "d": "true or false",
        "e": "a list, each a whole number",
        "f": "a mapping, each value a number",
        "g": "one of 'x', 'y', 3",
        "h": "a whole number",
        "i": "a number",
        "j": "a list, each a text",
        "k": "a list, each a text",
        "l": "bytes",
    }


def test_other_annotations_leave_the_decision_to_the_constructor():
    def make(a, b: Any, c: Callable[[], int], d: "Unknown | None", e: int | Callable[[], int], f: "1 +") -> None:  # noqa: F722
        ...

    assert set(options_of(make).values()) == {""}


def test_a_dataclass_tells_its_options():
    @dataclass
    class Counted(BaseObserver):
        limit: int
        label: str = "x"

        def update(self, context) -> None: ...

    register_observer_type("counted", Counted)
    assert create_observer("counted", limit=3).limit == 3
    assert refused(create_observer, "counted", limit="3", lable="x").splitlines() == [
        "create_observer('counted'): option 'limit' of 'counted': expected a whole number, got '3' (str)",
        "create_observer('counted'): 'counted' has no option 'lable' - did you mean 'label'?; it has limit, label",
    ]
    assert refused(create_observer, "counted") == (
        "create_observer('counted'): 'counted' lacks its option 'limit', a whole number"
    )


def test_a_class_without_a_readable_signature_takes_any_option():
    register_observer_type("opaque", type("Opaque", (BaseObserver,), {"__signature__": "none", "update": len}))
    assert "TypeError" in refused(create_observer, "opaque", nothing=1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": True}, "a whole number, got True (bool)"),
        ({"limit": 1.5}, "a whole number, got 1.5 (float)"),
        ({"ratio": False}, "a number, got False (bool)"),
        ({"on": 1}, "true or false, got 1 (int)"),
        ({"label": None}, "a text, got None (NoneType)"),
        ({"parts": "a"}, "a list, each a text or nothing (null), got 'a' (str)"),
        ({"parts": ["a", 2]}, "a list, each a text or nothing (null), got ['a', 2] (list)"),
        ({"api_key": 12345678}, "a text or nothing (null), got a hidden value (int)"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_was_expected(options, expected):
    (name,) = options
    assert refused(create_observer, "gauge", **options) == (
        f"create_observer('gauge'): option {name!r} of 'gauge': expected {expected}"
    )
    assert Probe.made == []


def test_a_whole_number_will_do_for_a_float():
    assert create_observer("gauge", ratio=2).options["ratio"] == 2


def test_the_nearest_choice_is_named():
    assert "- did you mean 'drop_oldest'?" in refused(
        create_observer, "background", observer=MetricsObserver(), overflow="drop_oldst"
    )


def test_all_that_is_wrong_is_told_at_once():
    message = refused(create_observer, "gauge", limit="x", lable=1, on=2)
    assert [line.partition(": ")[2][:14] for line in message.splitlines()] == [
        "option 'limit'",
        "'gauge' has no",
        "option 'on' of",
    ]


def test_hundreds_of_errors_are_cut():
    lines = refused(create_observer, "gauge", **{f"unknown_{n}": n for n in range(500)}).splitlines()
    assert len(lines) == 101
    assert lines[-1] == "... and more"


def test_what_the_constructor_raises_is_told_as_the_cause():
    with pytest.raises(ValueError, match="making it raised ValueError: limit=-1 with gauge and None") as caught:
        create_observer("gauge", limit=-1)
    assert type(caught.value.__cause__) is ValueError


def test_a_constructor_that_shows_a_secret_does_not_get_it_into_the_message():
    with pytest.raises(ValueError, match="it raised ValueError") as caught:
        create_observer("gauge", limit=-1, api_key="tulip-42")
    assert "tulip" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_secret_that_the_constructor_does_not_show_hides_nothing():
    assert "max_slow=0" in refused(create_observer, "timing", max_slow=0)
    register_observer_type("keyed", lambda max_slow, api_key: TimingObserver(max_slow=max_slow))
    assert "max_slow=0 (int): expected a whole number of at least 1" in refused(
        create_observer, "keyed", max_slow=0, api_key="tulip-42"
    )


@pytest.mark.parametrize("made", [None, 5, MetricsObserver, object()], ids=["None", "5", "class", "object"])
def test_what_is_no_observer_is_refused(made):
    register_observer_type("strange", lambda: made)
    assert "which has no update(context)" in refused(create_observer, "strange")


def test_an_observer_inside_another_is_made_too():
    outer = create_observer("wrapper", observer={"type": "gauge", "config": {"limit": 3}}, observers=["probe", Probe()])
    assert type(outer) is Wrapper
    assert outer.observer.options["limit"] == 3
    assert [type(inner) for inner in outer.options["observers"]] == [Probe, Probe]
    own = Probe()
    assert create_observer("wrapper", observer=own).observer is own


def test_what_is_wrong_inside_another_is_told_with_its_path():
    message = refused(create_observer, "wrapper", observer={"type": "gauge", "config": {"limt": 3}})
    assert message.startswith("observer.config.limt: 'gauge' has no option 'limt' - did you mean 'limit'?")


# Options, by a schema


def test_a_schema_says_more_than_a_signature():
    def even(value) -> bool:
        return value % 2 == 0

    schema = {"a": even, "b": (int, "abc".__contains__), "c": Literal["x"], "d": Probe, "e": int | None, "f": Any}
    register_observer_type("checked", Probe, schema)
    given = {"a": 2, "b": "ab", "c": "x", "d": Probe(), "e": None, "f": object()}
    assert create_observer("checked", **given).options == given
    assert create_observer("checked", b=3).options == {"b": 3}
    message = refused(create_observer, "checked", a=3, b="x", c="y", d=1, e="", g=1)
    assert [line.removeprefix("create_observer('checked'): ") for line in message.splitlines()] == [
        "option 'a' of 'checked': expected what the check even() accepts, got 3 (int)",
        "option 'b' of 'checked': expected a whole number or what the check __contains__() accepts, got 'x' (str)",
        "option 'c' of 'checked': expected one of 'x', got 'y' (str)",
        "option 'd' of 'checked': expected an instance of Probe, got 1 (int)",
        "option 'e' of 'checked': expected a whole number or nothing (null), got '' (str)",
        "'checked' has no option 'g'; it has a, b, c, d, e, f",
    ]


def test_a_check_that_raises_refuses_with_what_it_said():
    def positive(value) -> bool:
        if value <= 0:
            raise ValueError(f"{value} is too small")
        return True

    register_observer_type("checked", Probe, {"limit": positive, "token": positive})
    assert refused(create_observer, "checked", limit=-1).endswith("got -1 (int); it raised ValueError: -1 is too small")
    assert "-123456" not in refused(create_observer, "checked", token=-123456)


def test_a_check_that_raises_leaves_the_other_alternatives():
    register_observer_type("checked", Probe, {"limit": (lambda value: value > 0, str)})
    assert create_observer("checked", limit="many").options == {"limit": "many"}
    assert refused(create_observer, "checked", limit=[]).endswith(
        "expected what its check accepts or a text, got [] (list)"
    )


def test_a_schema_leaves_what_is_required_to_the_signature():
    def make(url, label="x") -> BaseObserver:
        return Probe(url=url, label=label)

    register_observer_type("needy", make, {"url": str, "label": str})
    assert refused(create_observer, "needy", label="y") == (
        "create_observer('needy'): 'needy' lacks its option 'url', a text"
    )


# Plug-ins


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with entry points, for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(package: str, code: str, **entry_points: str) -> None:
        (tmp_path / f"{package}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{target}" for name, target in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[callpyback.observers]", *lines, ""]))
        importlib.invalidate_caches()

    yield installed
    for name in [name for name in sys.modules if name.startswith("cpb_plugin_")]:
        del sys.modules[name]


PLUGIN = """
    from callpyback import BaseObserver

    class Bell(BaseObserver):
        def __init__(self, times: int = 1):
            super().__init__()
            self.times = times

        def update(self, context): ...

    number = 5
"""


def test_an_installed_package_brings_observers(install):
    install("cpb_plugin_bell", PLUGIN, bell="Bell")
    assert registered_observer_types()["bell"] == "cpb_plugin_bell:Bell of cpb_plugin_bell"
    assert "cpb_plugin_bell" not in sys.modules
    assert create_observer("bell", times=3).times == 3
    assert "- did you mean 'times'?" in refused(create_observer, "bell", time=3)


def test_names_of_the_library_and_the_program_go_before_those_of_plug_ins(install):
    install("cpb_plugin_taken", PLUGIN, metrics="Bell", probe="Bell")
    assert type(create_observer("metrics")) is MetricsObserver
    assert type(create_observer("probe")) is Probe


def test_a_name_of_two_packages_is_refused_until_the_program_decides(install):
    install("cpb_plugin_one", PLUGIN, rung="Bell")
    install("cpb_plugin_two", PLUGIN, rung="Bell")
    message = refused(create_observer, "rung")
    assert "cpb_plugin_one:Bell of cpb_plugin_one" in message
    assert "cpb_plugin_two:Bell of cpb_plugin_two" in message
    register_observer_type("rung", Probe)
    assert type(create_observer("rung")) is Probe


@pytest.mark.parametrize(
    ("code", "target", "complaint"),
    [
        (
            "raise RuntimeError('broken')",
            "Bell",
            "can't be loaded from cpb_plugin_bad:Bell of cpb_plugin_bad: RuntimeError",
        ),
        ("import nowhere_at_all", "Bell", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("", "Bell", "AttributeError"),
        (PLUGIN, "number", "is 5: expected a class of observers"),
    ],
)
def test_a_broken_plug_in_is_refused_by_its_package(install, code, target, complaint):
    install("cpb_plugin_bad", code, bad=target)
    assert complaint in refused(create_observer, "bad")
