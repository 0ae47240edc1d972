"""Whatever a configuration says: observers, or one ConfigurationError that shows no secret."""

from functools import partial

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callpyback import BaseObserver, ConfigurationError
from callpyback.config import create_observer, describe_observers, load_observers, register_observer_type, registry
from callpyback.config.catalogue import BUILT_IN
from callpyback.config.problems import Problems, Reading, Unreadable
from callpyback.config.toml_lines import lines_of, tokens_of
from callpyback.config.toml_reading import read_toml
from callpyback.core.subscription import Subscription

SECRET = "qZ7wK9xJ"
ENVIRON = {"SECRET": SECRET, "NUMBER": "-94182730516253", "KIND": "metrics", "EMPTY": ""}


def calm(max_examples: int):
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=max_examples, deadline=None, suppress_health_check=checks)


# Those that open no file and no connection, whatever their options.
HARMLESS = sorted(BUILT_IN.keys() - {"database", "webhook", "progress"})


class Odd(BaseObserver):
    """Shows what it refuses."""

    def __init__(self, limit: int = 1, label: str = "", **options) -> None:
        super().__init__()
        if limit != 1 or label or options:
            raise ValueError(f"limit={limit}, label={label}, {options}")

    def update(self, context) -> None: ...


@pytest.fixture(autouse=True)
def names(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    register_observer_type("odd", Odd)


class Kept(BaseObserver):
    """Keeps its options."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def update(self, context) -> None: ...


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["${SECRET}", "a${SECRET}b", "${NUMBER}", "${KIND}", "${NOWHERE}", "${NOWHERE:-1}", "${", "$${", "${EMPTY}"]
    )
    | st.sampled_from(["metrics", "odd", "COMPLETED", "shop.*", "ValueError", "true", "1"])
)
names_of_types = st.sampled_from([*HARMLESS, "odd", "os.system", "metrcs", "${KIND}", "${SECRET}"])
known_options = st.sampled_from(
    sorted(
        {name for kind in HARMLESS for name in registry.observer_type(kind).schema.options} | {"password", "unknown"}
    )
)


def entries(values):
    options = st.dictionaries(known_options | st.text(max_size=3), values, max_size=4)
    keys = st.sampled_from(["name", "priority", "states", "match", "requires", "required_by", "enabled", "factory"])
    return st.builds(
        lambda kind, config, others: {"type": kind, "config": config, **others},
        names_of_types | scalars,
        options | scalars,
        st.dictionaries(keys, values, max_size=3),
    )


values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3) | entries(inner)
    ),
    max_leaves=6,
)
sources = st.fixed_dictionaries({"observers": st.lists(entries(values) | values, max_size=4)}) | st.dictionaries(
    st.text(max_size=5), values, max_size=3
)
anything = (
    values
    | st.builds(object)
    | st.binary(max_size=5)
    | st.sets(st.integers(), max_size=2)
    | st.sampled_from([int, len])
)


def assert_observers_or_refusal(load, *, ours=True) -> None:
    try:
        made = load()
    except ConfigurationError as error:
        text = str(error)
        assert text
        assert_no_secret(text)
        shown = error.__cause__ or error.__context__
        assert shown is None or SECRET not in f"{shown!r} {shown}"
        return
    if not ours:
        assert_no_secret(str(made))
        return
    for observer in made:
        watching = observer.observer if isinstance(observer, Subscription) else observer
        assert isinstance(watching, BaseObserver)
        watching.close()


def or_refused(action):
    """Return what the action gives, or None if it is refused as it should be."""
    try:
        return action()
    except ConfigurationError as error:
        refusal = error
    assert str(refusal)
    return None


def assert_no_secret(text: str) -> None:
    assert not any(SECRET[at : at + 4] in text for at in range(len(SECRET) - 3)), text
    assert ENVIRON["NUMBER"] not in text


@calm(150)
@given(source=sources)
def test_any_mapping_gives_observers_or_a_refusal_without_secrets(source):
    assert_observers_or_refusal(lambda: load_observers(source, environ=ENVIRON))
    assert_observers_or_refusal(lambda: describe_observers(source, environ=ENVIRON), ours=False)


@calm(100)
@given(source=anything, max_bytes=st.integers() | anything, environ=st.none() | anything)
def test_any_arguments_give_observers_or_a_refusal(source, max_bytes, environ):
    for load in (load_observers, describe_observers):
        or_refused(partial(load, source, max_bytes=max_bytes, environ=environ))


words = st.text("abcXYZ_-:#[]{}&*!|>'\"%@`,? 019.~${}\n\té", max_size=8)
sober_values = st.recursive(
    st.none() | st.booleans() | st.integers() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@calm(150)
@given(options=st.dictionaries(words, sober_values, max_size=4), flow=st.booleans())
def test_a_mapping_written_as_yaml_means_the_same(options, flow, tmp_path):
    source = {"observers": [{"type": "probe", "config": options}]}
    register_observer_type("probe", Kept, replace=True)
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(source, default_flow_style=flow, allow_unicode=True), encoding="utf-8", newline="")

    def kept(given_source):
        try:
            return load_observers(given_source, environ=ENVIRON)[0].options
        except ConfigurationError as error:
            return len(str(error).splitlines())

    assert kept(path) == kept(source)


YAML_PIECES = st.sampled_from(
    [
        *(
            "observers:",
            "\n",
            "  ",
            "- ",
            "type: ",
            "metrics",
            "odd",
            "config:",
            "{",
            "}",
            "[",
            "]",
            ",",
            ": ",
            "&a ",
            "*a",
        ),
        *("!!str ", "!!python/name:os.system ", "!x ", "<<: ", "|\n", '"', "'", "#", "${SECRET}", "${", "? ", "---\n"),
        *("...", "%", "\t", "@", "é", "1", "0x1"),
    ]
)
TOML_PIECES = st.sampled_from(
    [
        *("[[observers]]", "\n", "[observers.config]", "type = ", '"metrics"', "config.", "a", ".", " = ", "{", "}"),
        *("[", "]", ",", '"', "'", '"""', "'''", "\\", "#", '"${SECRET}"', "1", "1.5", "1979-05-27", "true", "\r\n"),
        *("=", "é", '"b c"', "a = [", "a = {", "a.b = "),
    ]
)


@pytest.mark.parametrize(("suffix", "pieces"), [("yaml", YAML_PIECES), ("toml", TOML_PIECES)])
@calm(400)
@given(data=st.data())
def test_any_text_gives_observers_or_a_refusal_without_secrets(suffix, pieces, data, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_text("".join(data.draw(st.lists(pieces, max_size=30))), encoding="utf-8", newline="")
    assert_observers_or_refusal(lambda: load_observers(path, environ=ENVIRON))


@pytest.mark.parametrize("suffix", ["yaml", "toml"])
@calm(300)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_observers_or_a_refusal(suffix, content, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    assert_observers_or_refusal(lambda: load_observers(path, environ=ENVIRON))


@calm(300)
@given(name=names_of_types | anything, options=st.dictionaries(known_options, anything, max_size=4))
def test_any_options_give_an_observer_or_a_refusal(name, options):
    assert_observers_or_refusal(lambda: [create_observer(name, **options)])


@calm(300)
@given(
    name=anything,
    cls=anything,
    schema=st.none() | st.dictionaries(st.text(max_size=3), anything, max_size=3) | anything,
)
def test_any_type_is_registered_or_refused(name, cls, schema):
    if or_refused(lambda: register_observer_type(name, cls, schema, replace=True) or "registered"):
        assert name in registry.registered_observer_types()


@calm(400)
@given(data=st.data())
def test_lines_of_toml_are_found_for_all_that_tomllib_reads(data):
    text = "".join(
        data.draw(st.lists(TOML_PIECES | st.sampled_from(["a = 1\n", "[a]\n", "b.c = [1,\n2]\n"]), max_size=25))
    )
    try:
        found = read_toml(text, str, Reading(Problems(), 1000, 10_000))
    except Unreadable:
        return
    lines = lines_of(tokens_of(text))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    if found is not None:
        assert_every_line_is_known(found, lines, ())


def assert_every_line_is_known(located, lines, path) -> None:
    if path:
        assert path in lines
        assert located.place == str(lines[path])
    if isinstance(located.value, dict | list):
        keys = located.value if isinstance(located.value, dict) else range(len(located.value))
        for key in keys:
            assert_every_line_is_known(located.value[key], lines, (*path, key))
