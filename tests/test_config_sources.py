"""What files may hold, and how what is wrong with them is told: by file and line."""

import os
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import pytest

from callpyback import MetricsObserver, TimingObserver
from callpyback.config import describe_observers, load_observers
from callpyback.config.located import MAX_DEPTH
from callpyback.config.toml_lines import lines_of, tokens_of
from configuring import Probe, refused, registered  # noqa: F401 - the fixture

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a folder of the test's own, so that places are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, content) -> str:
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    else:
        Path(name).write_text(textwrap.dedent(content), encoding="utf-8")
    return name


def options_of(name: str, content) -> dict:
    (observer,) = load_observers(written(name, content))
    return observer.options


def complaints(name: str, content, **options) -> list[str]:
    return refused(load_observers, written(name, content), **options).splitlines()


# YAML


def test_a_yaml_file_gives_plain_values():
    assert options_of(
        "a.yaml",
        """
        observers:
          - type: probe
            config:
              whole: 3
              hexadecimal: 0x10
              number: 1.5
              endless: .inf
              yes: on
              no: false
              nothing: null
              empty:
              text: a b
              quoted: "3"
              date: 2024-01-31
              tagged: !!str 5
              long: ELEVENS
              list: [1, [two], {three: 3}]
              12: twelve
              block: |
                two
                lines
        """.replace("ELEVENS", "1" * 101),
    ) == {
        "whole": 3,
        "hexadecimal": 16,
        "number": 1.5,
        "endless": float("inf"),
        "yes": True,
        "no": False,
        "nothing": None,
        "empty": None,
        "text": "a b",
        "quoted": "3",
        "date": "2024-01-31",
        "tagged": "5",
        "long": "1" * 101,
        "list": [1, ["two"], {"three": 3}],
        "12": "twelve",
        "block": "two\nlines\n",
    }


def test_aliases_and_merged_mappings_stand_for_what_they_name():
    first, second = load_observers(
        written(
            "a.yml",
            """
            x-shared: &shared {a: 1, parts: [1]}
            x-other: &other {a: 2, c: 2}
            observers:
              - type: probe
                config: *shared
              - type: probe
                config: {<<: [*shared, *other], a: 0}
            """,
        )
    )
    assert first.options == {"a": 1, "parts": [1]}
    assert second.options == {"a": 0, "parts": [1], "c": 2}
    assert first.options["parts"] is not second.options["parts"]


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("!!python/object/apply:os.system", "the tag !!python/object/apply:os.system is refused"),
        ("!!python/name:os.system", "the tag !!python/name:os.system is refused"),
        ("!!set", "the tag !!set is refused"),
        ("!secret", "a tag (!) is refused"),
        ("!<tag:example.org,2024:x>", "a tag (!) is refused"),
    ],
)
@pytest.mark.parametrize("value", ["[touch marker]", "{a: 1}", "text"])
def test_tags_for_objects_are_refused_and_nothing_is_made(tag, shown, value):
    (line,) = complaints("a.yaml", f"observers:\n- probe\n- type: probe\n  config:\n    x: {tag} {value}\n")
    assert line.startswith(f"a.yaml:5: {shown}: only !!str, !!int, ")
    assert not Path("marker").exists()
    assert Probe.made == []


def test_the_text_of_an_unknown_tag_is_not_shown():
    (line,) = complaints("a.yaml", "observers:\n- type: probe\n  config: {password: !hunter2 x}\n")
    assert "hunter2" not in line


def test_keys_given_twice_are_refused_with_both_lines():
    assert complaints(
        "a.yaml",
        """\
        observers:
          - type: probe
            config:
              limit: 1
              limit: 2
            type: gauge
        """,
    ) == [
        "a.yaml:5: the key 'limit' is there already, at a.yaml:4",
        "a.yaml:6: the key 'type' is there already, at a.yaml:2",
    ]
    assert Probe.made == []


@pytest.mark.parametrize("key", ["[a, b]", "{a: b}", "*x"])
def test_keys_are_texts(key):
    lines = complaints("a.yaml", f"x-a: &x a\nobservers:\n- type: probe\n  config:\n    ? {key}\n    : 1\n")
    assert lines == ["a.yaml:5: a key that is no text; keys are names"]


@pytest.mark.parametrize(
    "value", ["!!int abc", "!!int ''", "!!float x", "!!bool 7", "0b_", "!!int '" + "1" * 200 + "'"]
)
def test_what_is_no_value_of_its_type_is_refused(value):
    (line,) = complaints("a.yaml", f"observers:\n- type: probe\n  config: {{x: {value}}}\n")
    assert line.startswith("a.yaml:3: no valid ")
    assert line.endswith(" of YAML; a text needs quotes")


def test_an_alias_of_nothing_is_refused_without_its_text():
    assert complaints("a.yaml", "observers:\n- type: probe\n  config: {password: *hunter2}\n") == [
        "a.yaml:3: no anchor (&) before it has the name of this alias (*); a text that begins with * needs quotes"
    ]


def test_what_stands_for_itself_is_refused():
    (line,) = complaints("a.yaml", "observers: &all\n- type: probe\n  config: {x: *all}\n")
    assert line == "a.yaml:3: an alias (*) inside the very value it stands for"


def test_only_mappings_are_merged():
    (line,) = complaints("a.yaml", "observers:\n- type: probe\n  config: {<<: 5}\n")
    assert line == "a.yaml:3: << merges a mapping, or a list of mappings"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("observers: [\n", "a.yaml:2: no valid YAML: while parsing a flow node: expected the node content"),
        ("observers:\n\t- x\n", "a.yaml:2: no valid YAML: while scanning for the next token: found character '\\t'"),
        ("a: b: c\n", "a.yaml:1: no valid YAML: mapping values are not allowed here"),
        ("observers:\n- 'hunter2\n", "a.yaml:3: no valid YAML: while scanning a quoted scalar: found unexpected end"),
        ("observers: []\n---\nx: 1\n", "a.yaml:2: a second document begins; one file holds one"),
        ("observers: []\nx: \x07\n", "a.yaml:2: no valid YAML: the character U+0007 is not allowed"),
        ("%TAG ! x\n%TAG ! hunter2\n--- a\n", "a.yaml:2: no valid YAML: duplicate tag handle"),
        ("x: !hunter2!y z\n", "a.yaml:1: no valid YAML: while parsing a node: found undefined tag handle ..."),
    ],
)
def test_what_is_no_yaml_is_refused_by_line_without_its_content(content, complaint):
    (line,) = complaints("a.yaml", content)
    assert line.startswith(complaint)
    assert "hunter2" not in line


def test_without_pyyaml_a_yaml_file_is_refused_with_the_way_out():
    written("a.yaml", "observers: []\n")
    written("a.toml", "observers = []\n")
    code = """
        import sys
        sys.modules["yaml"] = None
        from callpyback.config import load_observers
        assert load_observers("a.toml") == []
        try:
            load_observers("a.yaml")
        except ValueError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "pip install callpyback[yaml]" in done.stdout


# TOML


TOML = '''\
# a comment with [[brackets]] and "quotes
x-note = """
[[observers]]
"""

[[observers]]
type = "probe"
config.a = 1
config."quoted key" = 'C:\\x'

[[observers]]
type = "probe"
[observers.config]
list = [
    1, # one
    [2, 3],
    { four = 4, five = [5] },
]
date = 2024-01-31
moment = 1979-05-27 07:32:00
inline = { x.y = """a
b""", z = 1.5e3 }
'''


def test_a_toml_file_gives_plain_values():
    first, second = load_observers(written("a.toml", TOML))
    assert first.options == {"a": 1, "quoted key": "C:\\x"}
    assert second.options == {
        "list": [1, [2, 3], {"four": 4, "five": [5]}],
        "date": "2024-01-31",
        "moment": "1979-05-27T07:32:00",
        "inline": {"x": {"y": "a\nb"}, "z": 1500.0},
    }


def test_each_value_of_a_toml_file_has_its_line():
    assert lines_of(tokens_of(TOML)) == {
        ("x-note",): 2,
        ("observers",): 6,
        ("observers", 0): 6,
        ("observers", 0, "type"): 7,
        ("observers", 0, "config"): 8,
        ("observers", 0, "config", "a"): 8,
        ("observers", 0, "config", "quoted key"): 9,
        ("observers", 1): 11,
        ("observers", 1, "type"): 12,
        ("observers", 1, "config"): 13,
        ("observers", 1, "config", "list"): 14,
        ("observers", 1, "config", "list", 0): 15,
        ("observers", 1, "config", "list", 1): 16,
        ("observers", 1, "config", "list", 1, 0): 16,
        ("observers", 1, "config", "list", 1, 1): 16,
        ("observers", 1, "config", "list", 2): 17,
        ("observers", 1, "config", "list", 2, "four"): 17,
        ("observers", 1, "config", "list", 2, "five"): 17,
        ("observers", 1, "config", "list", 2, "five", 0): 17,
        ("observers", 1, "config", "date"): 19,
        ("observers", 1, "config", "moment"): 20,
        ("observers", 1, "config", "inline"): 21,
        ("observers", 1, "config", "inline", "x"): 21,
        ("observers", 1, "config", "inline", "x", "y"): 21,
        ("observers", 1, "config", "inline", "z"): 22,
    }


@pytest.mark.parametrize(
    "text",
    [
        '""" "" "" """',
        '"""a"""""',
        "'''it's '' '''''",
        '""',
        "''",
        '"\\""',
        '"""\\"""\\n"""',
        "'\\'",
        '"a#b"',
        '"""\na\n\n"""',
    ],
)
def test_texts_of_every_form_end_where_toml_ends_them(text):
    source = f"a = {text}\nb = [{text}, 2]\n"
    lines = lines_of(tokens_of(source))
    assert lines[("b",)] == text.count("\n") + 2
    assert set(lines) == {("a",), ("b",), ("b", 0), ("b", 1)}


def test_what_is_wrong_in_a_toml_file_is_told_by_line():
    lines = complaints(
        "a.toml",
        """\
        [[observers]]
        type = "gauge"
        enabeld = true
        [observers.config]
        limit = "x"
        parts = [
            "a",
            "${NOWHERE_TO_BE_FOUND}",
        ]

        [[observers]]
        config.limit = 1
        """,
    )
    beginnings = [
        "a.toml:3: unknown key 'enabeld' - did you mean 'enabled'?; an entry has type, enabled, config, ",
        "a.toml:5: option 'limit' of 'gauge': expected a whole number, got 'x' (str)",
        "a.toml:8: the environment variable NOWHERE_TO_BE_FOUND is not set; ",
        "a.toml:11: an entry lacks its `type`, such as type: metrics",
    ]
    assert [line[: len(known)] for line, known in zip(lines, beginnings, strict=True)] == beginnings


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("observers = [\n", "a.toml:2: no valid TOML: "),
        ("a = 1\nb = \n", "a.toml:2: no valid TOML: Invalid value"),
        ("a = 1\na = 2\n", "a.toml:2: no valid TOML: Cannot overwrite a value"),
        ("a = 'x\n", "a.toml:2: no valid TOML: Expected"),
        ("a = 1\n\nb = '''x\n", "a.toml:4: no valid TOML: "),
        ("a = " + "1" * 5000, "a.toml:1: no valid TOML: "),
    ],
)
def test_what_is_no_toml_is_refused_by_line(content, complaint):
    (line,) = complaints("a.toml", content)
    assert line.startswith(complaint)


# Mappings


def test_a_mapping_of_any_class_is_read():
    given = types.MappingProxyType(
        {"observers": (types.MappingProxyType({"type": "probe", "config": {"a": (1, [2])}}),)}
    )
    (observer,) = load_observers(given)
    assert observer.options == {"a": (1, [2])}
    assert observer.options["a"] is given["observers"][0]["config"]["a"]


def test_objects_in_a_mapping_arrive_as_they_are():
    thing = object()
    (observer,) = load_observers({"observers": [{"type": "probe", "config": {"thing": thing}}]})
    assert observer.options["thing"] is thing


def test_what_is_wrong_in_a_mapping_is_told_by_its_path():
    lines = refused(
        load_observers,
        {"observers": [{"type": "gauge", "config": {"parts": ["${NOWHERE_TO_BE_FOUND}"], "limt": 1, 3: 4}}]},
    ).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "observers[0].config",
        "observers[0].config.parts[0]",
        "observers[0].config.limt",
    ]


def test_a_mapping_that_holds_itself_is_refused():
    endless: dict = {"observers": []}
    endless["observers"].append(endless)
    assert f"nested deeper than {MAX_DEPTH} levels" in refused(load_observers, endless)


def test_a_mapping_that_breaks_is_refused():
    class Broken(dict):
        def items(self):
            raise RuntimeError("no items")

    assert refused(load_observers, {"observers": [Broken(a=1)]}) == (
        "observers[0]: looking at this Broken raised RuntimeError: no items"
    )


def test_an_object_that_cannot_be_looked_at_is_refused():
    class Liar:
        @property
        def __class__(self):
            raise RuntimeError("no class")

    assert refused(load_observers, {"observers": [Liar()]}) == (
        "looking at what this dict holds raised RuntimeError: no class"
    )


@pytest.mark.parametrize("source", [None, 5, [], ["metrics"], b"a.yaml", MetricsObserver(), object])
def test_a_source_is_a_path_or_a_mapping(source):
    assert refused(load_observers, source).startswith("source=")


# Files


def test_a_path_may_be_a_path_object_and_its_suffix_in_capitals():
    written("a.YAML", "observers: [probe]\n")
    assert [type(observer) for observer in load_observers(Path("a.YAML"))] == [Probe]


def test_a_byte_order_mark_is_no_part_of_the_text():
    for name, content in {"a.yaml": "observers: [probe]\n", "a.toml": 'observers = ["probe"]\n'}.items():
        Path(name).write_text(content, encoding="utf-8-sig")
        assert len(load_observers(name)) == 1


def test_line_ends_of_windows_change_nothing():
    assert complaints("a.yaml", b"observers:\r\n- type: gauge\r\n  config:\r\n    limit: x\r\n")[0][:8] == "a.yaml:4"
    assert complaints("a.toml", b'[[observers]]\r\ntype = "gauge"\r\nconfig.limit = "x"\r\n')[0][:8] == "a.toml:3"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere.yaml", "nowhere.yaml: the file can't be read: No such file or directory"),
        ("nul\0.yaml", r"nul\x00.yaml: the file can't be read: ValueError: "),
        ("a.json", "a.json: the name ends in '.json': expected one of .yaml, .yml, .toml"),
        ("observers", "observers: the name ends in 'no suffix': expected one of .yaml, .yml, .toml"),
        ("", ".: the name ends in 'no suffix'"),
        ("observers:\n- type: x\n", "source: expected the path of a file, got a text of several lines"),
        ("x" * 300 + ".toml", "x" * 197 + "...: the file can't be read: "),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(name, complaint):
    assert refused(load_observers, name).startswith(complaint)


def test_a_path_object_that_has_no_path_is_refused():
    class Nowhere:
        def __fspath__(self):
            raise RuntimeError("nowhere")

    assert refused(load_observers, Nowhere()).endswith("looking at it raised RuntimeError: nowhere")


def test_a_folder_and_a_pipe_are_no_files():
    Path("folder.yaml").mkdir()
    assert refused(load_observers, "folder.yaml") == "folder.yaml: this is a directory; expected the path of a file"
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.yaml")
        assert refused(load_observers, "pipe.yaml") == "pipe.yaml: this is no regular file; expected the path of a file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused():
    Path(written("a.yaml", "observers: []\n")).chmod(0)
    assert "the file can't be read: Permission denied" in refused(load_observers, "a.yaml")


@pytest.mark.parametrize("name", ["a.yaml", "a.toml"])
@pytest.mark.parametrize("content", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file_is_refused(name, content):
    assert complaints(name, content) == [f"{name}:1: the file is empty; expected `observers:` with a list"]


@pytest.mark.parametrize("content", ["---\n", "null\n", "~\n"])
def test_a_document_of_nothing_is_empty_too(content):
    assert complaints("a.yaml", content)[0].startswith("a.yaml:1: the file is empty")


@pytest.mark.parametrize("name", ["a.yaml", "a.toml"])
def test_a_file_that_is_no_utf8_is_refused_by_line(name):
    assert complaints(name, "# one\n# ü\n".encode("latin-1")) == [
        f"{name}:2: the file is no UTF-8 text; save it as UTF-8"
    ]
    assert "this looks like UTF-16" in complaints(name, "observers".encode("utf-16"))[0]


# Bounds


def test_a_large_file_is_refused_unless_it_is_allowed():
    content = "observers: []\n" + "#" * 2_000_000
    assert complaints("a.yaml", content) == ["a.yaml: the file is larger than 1000000 bytes; max_bytes= allows more"]
    assert load_observers("a.yaml", max_bytes=3_000_000) == []
    assert refused(load_observers, "a.yaml", max_bytes=0).startswith("max_bytes=0")


def bomb(levels: int, width: int) -> str:
    lines = ["x-0: &a0 [lol]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join([*lines, "observers: []", ""])


HOSTILE = {
    "aliases of aliases": ("yaml", lambda: bomb(10, 10), "more than 10000 values; aliases count for all"),
    "aliases of a long text": (
        "yaml",
        lambda: f"x-0: &a {'x' * 900_000}\nx-1: [*a, *a]\n",
        "more than 1000000 characters, aliases counted",
    ),
    "many values": ("yaml", lambda: "x-0:\n" + "- a\n" * 200_000, "more than 10000 values"),
    "many values in TOML": ("toml", lambda: f"x-0 = [{'1,' * 400_000}]", "too many values"),
    "many tables": ("toml", lambda: "[[x-0]]\n" * 100_000, "too many values"),
    "some tables": ("toml", lambda: "[[x-0]]\n" * 20_000, "more than 10000 values"),
    "brackets": ("yaml", lambda: "[" * 900_000, "nested deeper than 32 levels"),
    "braces": ("yaml", lambda: "{a: " * 200_000, "nested deeper than 32 levels"),
    "dashes": ("yaml", lambda: "- " * 400_000, "nested deeper than 32 levels"),
    "keys of keys": ("yaml", lambda: "? " * 400_000, "nested deeper than 32 levels"),
    "brackets in TOML": ("toml", lambda: f"a = {'[' * 900_000}", "nested deeper than 32 levels"),
    "a dotted key": ("toml", lambda: f"{'a.' * 400_000}a = 1", "nested deeper than 32 levels"),
    "a spaced key": ("toml", lambda: f"[{'a . ' * 200_000}a]", "nested deeper than 32 levels"),
    "quotes": ("toml", lambda: '"\\' * 400_000, "no valid TOML"),
    "quotes of three": ("toml", lambda: "a = " + '"""\\' * 200_000, "no valid TOML"),
    "single quotes": ("toml", lambda: "a = '" + "\n'" * 400_000, "no valid TOML"),
    "unfinished references": ("yaml", lambda: "observers:\n- type: '" + "${A:-" * 190_000 + "'\n", "${ without a name"),
    "long names": (
        "yaml",
        lambda: "observers:\n- {" + ", ".join(f"{n}{'y' * 80}: 1" for n in range(9_000)) + "}\n",
        "",
    ),
    "unknown types": ("yaml", lambda: "observers:\n" + "- metrik\n" * 9_000, "... and more"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_seconds(name):
    suffix, content, complaint = HOSTILE[name]
    Path(f"a.{suffix}").write_text(content())
    begun = time.process_time()
    message = refused(load_observers, f"a.{suffix}")
    assert complaint in message
    assert len(message) < 100_000
    assert time.process_time() - begun < 10  # each takes less than two


def test_references_multiply_the_environment_up_to_a_bound_only():
    written("a.yaml", "observers:\n- type: probe\n  config:\n    x: [" + "'${BIG}${BIG}${BIG}', " * 100 + "]\n")
    message = refused(load_observers, "a.yaml", environ={"BIG": "x" * 100_000})
    assert "environment variables make up more than 1000000 characters" in message


def test_the_deepest_nesting_that_is_allowed_is_read():
    depth = MAX_DEPTH - 4  # below the top, the list, the entry and its config
    written("a.yaml", f"observers: [{{type: probe, config: {{x: {'[' * depth}{']' * depth}}}}}]")
    assert len(describe_observers("a.yaml")) == 1


def test_one_file_of_each_format_says_the_same():
    written("a.yaml", "observers:\n- type: timing\n  enabled: true\n  config: {threshold: 0.5}\n")
    written("a.toml", '[[observers]]\ntype = "timing"\nenabled = true\nconfig = {threshold = 0.5}\n')
    given = {"observers": [{"type": "timing", "enabled": True, "config": {"threshold": 0.5}}]}
    described = [describe_observers(source)[0] for source in ("a.yaml", "a.toml", given)]
    assert [entry.pop("place") for entry in described] == ["a.yaml:2", "a.toml:1", "observers[0]"]
    assert described[0] == described[1] == described[2]
    assert [type(load_observers(source)[0]) for source in ("a.yaml", "a.toml", given)] == [TimingObserver] * 3
