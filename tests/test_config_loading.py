"""What an entry may say, what comes of it, and what is never shown."""

import json
import logging
import os
import textwrap

import pytest

from callpyback import (
    BackgroundObserver,
    CallPyBack,
    ExecutionState,
    LoggingObserver,
    MetricsObserver,
    TimingObserver,
    config,
)
from callpyback.config import create_observer, describe_observers, load_observers, register_observer_type
from callpyback.config.catalogue import BUILT_IN
from callpyback.config.entries import EntryReader
from callpyback.config.environment import Environment
from callpyback.config.mapping_reading import read_mapping
from callpyback.config.problems import Problems, Reading
from callpyback.core.masking import MASK
from callpyback.core.subscription import Subscription
from configuring import Gauge, Probe, refused, registered  # noqa: F401 - the fixture

pytestmark = pytest.mark.usefixtures("registered")


def loaded(*entries, **environ):
    return load_observers({"observers": entries}, environ=environ)


def complaints(*entries, **environ) -> list[str]:
    return refused(load_observers, {"observers": entries}, environ=environ).splitlines()


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def written(content: str, name: str = "observers.yaml") -> str:
        (tmp_path / name).write_text(textwrap.dedent(content), encoding="utf-8")
        return name

    return written


# Entries


def test_the_seeds_file_makes_the_seeds_observer(file):
    class MyCustomObserver(Probe):
        def __init__(self, config=None) -> None:
            super().__init__()
            self.config = config or {}

    register_observer_type(
        "my_custom", MyCustomObserver, schema={"enabled": bool, "filter_patterns": list, "output_format": str}
    )
    path = file(
        """
        # config/observers.yaml
        observers:
          - type: my_custom
            enabled: true
            config:
              filter_patterns: ["test.*", "experiment.*"]
              output_format: "json"
        """
    )
    (observer,) = load_observers(path)
    assert type(observer) is MyCustomObserver
    assert observer.config == {
        "enabled": True,
        "filter_patterns": ["test.*", "experiment.*"],
        "output_format": "json",
    }


def test_observers_come_in_the_order_of_the_file():
    assert [type(observer) for observer in loaded("gauge", {"type": "metrics"}, "probe")] == [
        Gauge,
        MetricsObserver,
        Probe,
    ]


def test_no_entries_make_no_observers():
    assert load_observers({"observers": []}) == []


def test_keys_that_begin_with_x_are_left_alone():
    assert load_observers({"observers": [], "x-shared": {"unknown": "${NOWHERE_TO_BE_FOUND}"}}) == []


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ({}, "lacks `observers` with a list of entries"),
        ({"observer": []}, "observer: unknown key 'observer' - did you mean 'observers'?"),
        (
            {"observers": {"type": "metrics"}},
            "observers: observers: expected a list of entries, got {'type': 'metrics'}",
        ),
        ({"observers": "metrics"}, "observers: observers: expected a list of entries, got 'metrics' (str)"),
        ({"observers": None}, "observers: observers: expected a list of entries, got None"),
        ({"observers": [5]}, "observers[0]: expected an entry such as {type: metrics}, got 5 (int)"),
        ({"observers": [None]}, "observers[0]: expected an entry such as {type: metrics}, got None (NoneType)"),
        ({"observers": [{}]}, "observers[0]: expected an entry such as {type: metrics}, got {} (dict)"),
        ({"observers": [{"enabled": True}]}, "observers[0]: an entry lacks its `type`"),
        ({"observers": [{"type": 5}]}, "observers[0].type: type: expected a text, got 5 (int)"),
        (
            {"observers": [{"type": "probe", "config": []}]},
            "observers[0].config: config: expected a mapping, got [] (list)",
        ),
        ({"observers": [{"type": "probe", "enabled": "no"}]}, "enabled: expected true or false, got 'no' (str)"),
        ({"observers": [{"type": "probe", "confg": {}}]}, "unknown key 'confg' - did you mean 'config'?"),
    ],
)
def test_what_is_no_entry_is_refused(source, complaint):
    assert complaint in refused(load_observers, source)


def test_a_file_whose_top_is_a_list_is_refused(file):
    assert refused(load_observers, file("- metrics\n")) == (
        "observers.yaml:1: expected `observers` with a list of entries at the top, got ['metrics'] (list)"
    )


@pytest.mark.parametrize("key", ["factory", "class", "import", "module", "()", "_target_", "py/object"])
def test_nothing_but_a_registered_name_says_what_is_made(key):
    (line,) = complaints({"type": "probe", key: "os.system"})
    assert f"unknown key {key!r}" in line


@pytest.mark.parametrize("name", ["os.system", "subprocess:Popen", "callpyback.observers.metrics.MetricsObserver"])
def test_an_import_path_as_the_type_is_refused(name):
    (line,) = complaints(name)
    assert line.startswith(f"observers[0]: unknown observer type {name!r}")
    assert "a name is never imported" in line


# Disabled entries


def test_a_disabled_entry_makes_nothing_and_needs_nothing():
    disabled = {"type": "not_installed", "enabled": False, "config": {"url": "${NOWHERE_TO_BE_FOUND}"}}
    assert loaded(disabled, {"type": "probe", "enabled": "${ON}"}, ON="off") == []
    assert len(loaded({"type": "probe", "enabled": "${ON:-yes}"})) == 1


def test_the_keys_of_a_disabled_entry_are_checked():
    assert "did you mean 'config'?" in complaints({"type": "probe", "enabled": False, "confg": {}})[0]


# Registration


def test_what_is_asked_for_the_registration_comes_as_a_subscription():
    (asked,) = loaded(
        {
            "type": "probe",
            "name": "slow",
            "priority": 7,
            "states": ["completed", "ERROR"],
            "match": ["shop.*", "bank.pay"],
            "requires": "audit",
            "required_by": ["a", "b"],
            "config": {"name": "inner"},
        }
    )
    assert type(asked) is Subscription
    assert type(asked.observer) is Probe
    assert asked.observer.options == {"name": "inner"}
    assert (asked.name, asked.priority, asked.match) == ("slow", 7, ["shop.*", "bank.pay"])
    assert asked.states == [ExecutionState.COMPLETED, ExecutionState.ERROR]
    assert (asked.requires, asked.required_by) == (("audit",), ("a", "b"))


def test_a_mapping_may_hold_states_and_predicates_themselves():
    def wanted(signature) -> bool:
        return True

    (asked,) = loaded({"type": "probe", "states": ExecutionState.COMPLETED, "match": wanted})
    assert asked.states is ExecutionState.COMPLETED
    assert asked.match is wanted


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("name", 5, "name: expected a text, got 5 (int)"),
        ("name", "", "name='' (str): expected a text"),
        ("priority", "high", "priority: expected a number, got 'high' (str)"),
        ("states", ["COMPLETE"], "'COMPLETE' is none - did you mean 'COMPLETED'?; they are INITIALIZED, "),
        ("states", 5, "states: expected names of states, and 5 is none; they are"),
        ("match", 5, "match: expected a text or a list, each a text, got 5 (int)"),
        ("requires", [1], "requires: expected a text or a list, each a text, got [1] (list)"),
        ("required_by", {}, "required_by: expected a text or a list, each a text, got {} (dict)"),
    ],
)
def test_what_can_not_be_asked_for_is_refused(key, value, complaint):
    (line,) = complaints({"type": "probe", key: value})
    assert complaint in line
    assert all(probe.closed for probe in Probe.made)


def test_a_name_given_twice_is_refused_with_both_places():
    assert complaints({"type": "probe", "name": "x"}, {"type": "gauge", "name": "x"}) == [
        "observers[1].name: the name is taken already, by the entry at observers[0]"
    ]


def test_loaded_observers_watch_what_they_were_asked_to(file):
    path = file(
        """
        observers:
          - type: probe
            name: of_payments
            match: "*pay"
            requires: of_all
            states: COMPLETED
          - type: probe
            name: of_all
            states: [PRE_EXECUTION, COMPLETED]
        """
    )
    observers = load_observers(path)
    order = []
    for asked in observers:
        asked.observer.seen = order
    watch = CallPyBack(observers=observers)

    @watch
    def pay():
        return "paid"

    @watch
    def look():
        return "seen"

    assert (pay(), look()) == ("paid", "seen")
    assert order == [
        ("pay", "PRE_EXECUTION"),
        ("pay", "COMPLETED"),
        ("pay", "COMPLETED"),
        ("look", "PRE_EXECUTION"),
        ("look", "COMPLETED"),
    ]


# The library's own

NEEDED = {
    "background": {"observer": "metrics"},
    "batching": {"observer": "debug", "batch_size": 10},
    "business_metrics": {"metrics_config": {"pay": {"revenue": {"source": "result", "path": "amount"}}}},
    "concurrency_limit": {"limit": 2},
    "database": {"path": "calls.db"},
    "deduplicate": {"observer": "debug", "window": 60},
    "profiling": {"observer": "debug"},
    "rate_limit": {"max_calls": 2, "period": 60},
    "sampling": {"observer": {"type": "history", "config": {"maxlen": 5}}, "rate": 0.1},
    "security_audit": {"audit_logger": "shop.audit", "sensitive_functions": ["pay"]},
    "webhook": {"url": "https://example.org/hook", "api_key": "${KEY}"},
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_observer_of_the_library_can_be_asked_for_in_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (observer,) = loaded({"type": name, "config": NEEDED.get(name, {})}, KEY="tulip")
    assert [known.observer for known in CallPyBack(observers=[observer]).registrations] == [observer]
    observer.close()


# Observers inside others


def test_an_observer_inside_another_is_an_entry_of_its_own():
    (background,) = loaded(
        {"type": "background", "config": {"observer": {"type": "logging", "config": {"logger": "shop.audit"}}}}
    )
    assert type(background) is BackgroundObserver
    assert type(background.observer) is LoggingObserver
    assert background.observer._logger is logging.getLogger("shop.audit")
    background.close()


def test_an_observer_inside_another_resolves_its_references_once():
    (outer,) = loaded(
        {"type": "wrapper", "config": {"observer": {"type": "probe", "config": {"a": "$${X}", "b": "${Y}"}}}}, Y="${X}"
    )
    assert outer.observer.options == {"a": "${X}", "b": "${X}"}


def test_an_observer_inside_another_is_not_registered():
    lines = complaints(
        {"type": "wrapper", "config": {"observer": {"type": "probe", "name": "x", "enabled": False, "match": "y"}}}
    )
    assert [line.partition(": ")[0].rpartition(".")[2] for line in lines] == ["name", "enabled", "match"]
    assert all("one inside another has `type` and `config` alone" in line for line in lines)


def test_several_observers_inside_one_are_made_in_order():
    (outer,) = loaded({"type": "wrapper", "config": {"observers": ["gauge", {"type": "probe"}]}})
    assert [type(inner) for inner in outer.options["observers"]] == [Gauge, Probe]


def test_the_failure_of_an_observer_inside_another_is_told_by_its_place():
    (line,) = complaints({"type": "wrapper", "config": {"observer": {"type": "timing", "config": {"max_slow": 0}}}})
    assert line.startswith("observers[0].config.observer.config.max_slow: 'timing': max_slow=0 (int): expected a whole")


# Names for objects


def test_exceptions_and_loggers_are_given_by_name():
    (breaker,) = loaded({"type": "circuit_breaker", "config": {"on": ["ConnectionError", "TimeoutError"]}})
    assert breaker._limits.on == (ConnectionError, TimeoutError)


@pytest.mark.parametrize("on", ["ConnectionError", ["ConnectionError"], [ConnectionError], ConnectionError], ids=repr)
def test_one_exception_or_several_are_given_by_name_or_as_classes(on):
    (breaker,) = loaded({"type": "circuit_breaker", "config": {"on": on}})
    assert breaker._limits.on == (ConnectionError,)


def test_a_logger_may_be_given_itself():
    logger = logging.getLogger("shop")
    (observer,) = loaded({"type": "logging", "config": {"logger": logger}})
    assert observer._logger is logger


def test_no_states_are_those_of_the_observer():
    (background,) = loaded({"type": "background", "config": {"observer": "timing", "states": None}})
    assert background.states == TimingObserver.states
    background.close()


@pytest.mark.parametrize(
    "name", ["ConectionError", "KeyboardInterrupt", "os.error", "requests.RequestException", "print"]
)
def test_only_pythons_own_exceptions_have_names(name):
    (line,) = complaints({"type": "circuit_breaker", "config": {"on": [name]}})
    assert f"expected names of Python's own exceptions, and {name!r} is none" in line


def test_states_among_the_options_are_given_by_name():
    (background,) = loaded({"type": "background", "config": {"observer": "probe", "states": ["completed"]}})
    assert background.states == {ExecutionState.COMPLETED}
    background.close()


# Environment variables


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("<${A}-${B}>", {"A": "1", "B": "2"}, "<1-2>"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A}", {"A": ""}, ""),
        ("${A:-}", {}, ""),
        ("${A:-$1 and :-}", {}, "$1 and :-"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("$$${A}", {"A": "x"}, "$${A}"),
        ("$A {A} $ {A} $", {"A": "x"}, "$A {A} $ {A} $"),
        ("${A}", {"A": "${A}${B}"}, "${A}${B}"),
        ("${A_1}", {"A_1": "ä\udc80"}, "ä\udc80"),
    ],
)
def test_a_reference_stands_for_the_variable(text, environ, expected):
    (observer,) = loaded({"type": "probe", "config": {"a": text, "b": [{"c": text}]}}, **environ)
    assert observer.options == {"a": expected, "b": [{"c": expected}]}


@pytest.mark.parametrize(
    "text", ["${}", "${1A}", "${A", "${A-b}", "${A:?b}", "${ A }", "${A:-{}}", "${A:-${B}}", "${ä}"]
)
def test_what_is_no_reference_is_refused_without_its_text(text):
    (line,) = complaints({"type": "probe", "config": {"a": text}}, A="tulip", B="tulip")
    assert line.startswith("observers[0].config.a: ${ without a name and a }: write ${NAME} or ${NAME:-default}")


def test_the_process_environment_is_used_by_default(monkeypatch):
    monkeypatch.setenv("CALLPYBACK_TEST_LIMIT", "7")
    (observer,) = load_observers({"observers": [{"type": "gauge", "config": {"limit": "${CALLPYBACK_TEST_LIMIT}"}}]})
    assert observer.options["limit"] == 7
    assert os.environ["CALLPYBACK_TEST_LIMIT"] == "7"


@pytest.mark.parametrize("environ", [5, {"A": 1}, {1: "a"}, "AB"])
def test_other_variables_are_texts_by_name(environ):
    assert refused(load_observers, {"observers": []}, environ=environ).startswith("environ=")


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("limit", "8", 8),
        ("limit", " 8 ", 8),
        ("ratio", "1e3", 1000.0),
        ("ratio", "2", 2),
        ("on", "true", True),
        ("on", "OFF", False),
        ("on", "1", True),
        ("limit", "1", 1),
        ("label", "8", "8"),
        ("label", "true", "true"),
        ("api_key", "", ""),
        ("untyped", "8", 8),
        ("untyped", "eight", "eight"),
        ("untyped", "1.5", "1.5"),
    ],
)
def test_what_came_of_references_is_read_as_the_option_wants_it(option, text, expected):
    (observer,) = loaded({"type": "gauge", "config": {option: "${VALUE}"}}, VALUE=text)
    assert observer.options[option] == expected
    assert type(observer.options[option]) is type(expected)


def test_a_text_of_the_file_itself_is_never_read_as_a_number():
    assert "expected a whole number, got '8' (str)" in complaints({"type": "gauge", "config": {"limit": "8"}})[0]


def test_a_missing_variable_is_told_by_line_and_with_the_nearest_name(file):
    path = file(
        """\
        observers:
          - type: probe
            config:
              url: ${DATBASE_URL}
              other: ${DATABASE_URL}
        """
    )
    assert refused(load_observers, path, environ={"DATABASE_URL": "tulip"}) == (
        "observers.yaml:4: the environment variable DATBASE_URL is not set - did you mean 'DATABASE_URL'?; set it, or "
        "write ${DATBASE_URL:-default}"
    )


def test_names_and_types_may_come_from_the_environment_and_are_hidden_then():
    (asked,) = loaded({"type": "${KIND}", "name": "${NAME}"}, KIND="probe", NAME="tulip")
    assert asked.name == "tulip"
    (line,) = complaints({"type": "${KIND}"}, KIND="tulip-42")
    assert "tulip" not in line
    (line,) = complaints({"type": "${KIND}", "config": {"limit": "x"}}, KIND="gauge")
    assert "gauge" not in line


# Secrets


SECRET = "tulip-4242"


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": [SECRET]},
        {"limit": -1, "api_key": SECRET},
        {"limit": -1, "label": "${S}"},
        {"limit": "${S}"},
        {"on": "${S}"},
        {"parts": {"password": SECRET}},
        {"parts": "${S}"},
        {"ratio": f"postgres://ann:{SECRET}@db/shop"},
        {"ratio": f"Bearer {SECRET}abc"},
        {"unknown": SECRET},
        {"limit": {"headers": {"Authorization": SECRET}}},
    ],
)
def test_no_error_shows_a_secret(options):
    message = refused(load_observers, {"observers": [{"type": "gauge", "config": options}]}, environ={"S": SECRET})
    assert message.startswith("observers[0]")
    assert not any(SECRET[at : at + 4] in message for at in range(len(SECRET) - 3))


def test_a_refused_option_is_named_even_where_its_message_is_not_shown():
    (line,) = complaints({"type": "timing", "config": {"max_slow": "${S}"}}, S="-4242")
    assert line == (
        "observers[0].config.max_slow: 'timing': max_slow is refused (the message is not shown, because it may hold a "
        "hidden value)"
    )


def test_a_number_that_was_read_from_the_environment_is_not_shown_either():
    (line,) = complaints({"type": "timing", "config": {"threshold": "${S}"}}, S="-77e3")
    assert "-77000" not in line


def test_the_default_of_a_reference_is_no_secret():
    assert (
        "expected a whole number, got 'many' (str)"
        in complaints({"type": "gauge", "config": {"limit": "${A:-many}"}})[0]
    )


def test_an_error_with_secrets_has_no_cause_that_shows_them():
    with pytest.raises(ValueError, match="it raised ValueError") as caught:
        loaded({"type": "gauge", "config": {"limit": -1, "label": "${S}"}}, S=SECRET)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_what_reading_keeps_shows_no_secret_in_tracebacks():
    problems = Problems()
    entry = EntryReader(Environment({"S": SECRET}, problems), problems).read(
        read_mapping({"type": "gauge", "config": {"label": "${S}"}}, "here", Reading(problems, 100, 1000))
    )
    assert entry.values == {"label": SECRET}
    assert SECRET not in repr(entry)


def test_what_a_file_asks_for_can_be_listed_without_its_secrets(file):
    path = file(
        """\
        observers:
          - metrics
          - type: gauge
            enabled: ${ON:-true}
            name: counted
            priority: 5
            config:
              api_key: tulip-1
              label: ${LABEL}
              parts: ["postgres://ann:tulip-2@db/shop", plain]
          - type: not_installed
            enabled: false
            config: {token: "tulip-3", headers: {authorization: tulip-4, accept: text}, url: "${URL}"}
        """
    )
    described = describe_observers(path, environ={"LABEL": "tulip-5"})
    assert described == [
        {"type": "metrics", "enabled": True, "config": {}, "place": "observers.yaml:2"},
        {
            "type": "gauge",
            "enabled": True,
            "name": "counted",
            "priority": 5,
            "config": {"api_key": MASK, "label": MASK, "parts": [MASK, "plain"]},
            "place": "observers.yaml:3",
        },
        {
            "type": "not_installed",
            "enabled": False,
            "config": {"token": MASK, "headers": {"authorization": MASK, "accept": "text"}, "url": "${URL}"},
            "place": "observers.yaml:11",
        },
    ]
    assert "tulip" not in json.dumps(described)
    assert Probe.made == []


def test_a_listing_of_objects_is_plain_data():
    described = describe_observers({"observers": [{"type": "probe", "config": {"thing": object, "secret": object}}]})
    assert json.loads(json.dumps(described))[0]["config"] == {"thing": "<class 'object'>", "secret": MASK}


def test_a_listing_refuses_what_loading_refuses():
    source = {"observers": [{"type": "gauge", "config": {"limit": "x"}}, "metrcs"]}
    assert refused(describe_observers, source) == refused(load_observers, source)


# All or nothing


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_lines(file):
    path = file(
        """\
        observers:
          - type: timing
            config: {max_slow: 0}
          - type: metrcs
          - type: gauge
            states: [DONE]
            config:
              limit: ${NOWHERE}
              ratio: much
          - type: gauge
            config: {limit: -5}
        observer: []
        """
    )
    lines = refused(load_observers, path, environ={}).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [f"observers.yaml:{n}:" for n in (3, 4, 6, 8, 9, 10, 12)]
    assert "making it raised ValueError: limit=-5" in lines[5]


def test_observers_of_a_refused_configuration_are_closed_the_last_first():
    closed = []

    class Closing(Probe):
        def close(self) -> None:
            closed.append(self.options["n"])
            if self.options["n"] == 2:
                raise RuntimeError("no")

    register_observer_type("closing", Closing)
    entries = [{"type": "closing", "config": {"n": n}} for n in (1, 2, 3)]
    inside = {"type": "wrapper", "config": {"observer": {"type": "closing", "config": {"n": 4}}}}
    complaints(*entries, inside, "metrcs")
    assert closed == [4, 3, 2, 1]


def test_an_interruption_closes_what_was_made():
    def interrupted():
        raise KeyboardInterrupt

    register_observer_type("interrupted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loaded("probe", "interrupted")
    assert [probe.closed for probe in Probe.made] == [1]


def test_nothing_is_made_of_an_entry_with_an_error():
    complaints({"type": "gauge", "config": {"limit": "x"}})
    complaints({"type": "gauge", "config": {}, "states": "DONE"})
    assert Probe.made == []


def test_what_was_made_by_name_does_not_depend_on_the_file_any_more(file):
    path = file("observers: [{type: timing, config: {threshold: 2}}]\n")
    first, second = load_observers(path)[0], load_observers(path)[0]
    assert first is not second
    assert type(first) is type(create_observer("timing")) is TimingObserver


def test_the_package_offers_what_it_says():
    assert set(config.__all__) <= set(dir(config))
    assert all(callable(getattr(config, name)) for name in config.__all__)
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        config.load  # noqa: B018 - the subject
