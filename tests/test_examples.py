"""Every example says what it should say, run as its readers run it."""

import contextlib
import doctest
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LIMIT = 60  # seconds; no example takes a tenth of that, so what reaches it hangs

# `...` stands for anything; what the examples print is kept beside the tests, one file each.
PRINTED = Path(__file__).parent / "example_output"
OUTPUT = {path.stem: path.read_text(encoding="utf-8") for path in PRINTED.glob("*.txt")}

# What the library's own logger says, which Python prints to stderr where no logging is set up.
WARNINGS = {path.stem: path.read_text(encoding="utf-8") for path in PRINTED.glob("*.err")}


def run(*arguments):
    """Run Python where the folder in front of its path holds no `callpyback`, so that the installed one is imported.

    Bytecode stays unwritten, so that no test leaves files among the examples.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        environment.pop(name, None)
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=LIMIT, check=False, env=environment, cwd=EXAMPLES
    )


def assert_says(expected, got):
    """`...` in what is expected stands for anything."""
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS
    if not checker.check_output(expected, got, flags):
        example = doctest.Example("", expected)
        pytest.fail(checker.output_difference(example, got, flags | doctest.REPORT_NDIFF))


@pytest.mark.parametrize("name", sorted(OUTPUT))
def test_an_example_prints_what_it_promises(name):
    done = run(EXAMPLES / f"{name}.py")
    assert_says(OUTPUT[name], done.stdout)
    assert_says(WARNINGS.get(name, ""), done.stderr)
    assert done.returncode == 0


def test_no_example_is_left_out():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*OUTPUT, "census", "census_report"}


def test_the_example_of_a_test_runs_under_pytest_too():
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", EXAMPLES / "testing_an_observer.py")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def blocks_of(page):
    """Return each `python` block, with the `text` block that follows it, if one does before the next `python` block."""
    fenced = re.findall(r"^```(python|text)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    pairs = zip(fenced, [*fenced[1:], ("python", "")], strict=True)
    return [(code, after if kind == "text" else None) for (own, code), (kind, after) in pairs if own == "python"]


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_a_page_shows_what_its_blocks_print(page, tmp_path):
    blocks = blocks_of(EXAMPLES.parent / page)
    script = tmp_path / "page.py"
    script.write_text("\nprint('=' * 9)\n".join(code for code, _ in blocks), encoding="utf-8")
    done = run(script)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split("=========\n")
    assert any(shown for _, shown in blocks)
    for (_, shown), got in zip(blocks, printed, strict=True):
        if shown is not None:
            assert_says(shown, got)


LIBRARY = {
    "good.py": b'__all__ = ["add"]\n\n\ndef add(a, b):\n    """Add."""\n    return a + b\n',
    "latin.py": b"# -*- coding: latin-1 -*-\nname = '\xe9'\n",
    "computed.py": b"__all__ = [name for name in dir()]\n",
    "noisy.py": b"pattern = '\\d'\n",  # parsing it warns
    "misspelt.py": b"# -*- coding: uft-8 -*-\n",
    "bytes.py": b"\n\nx = '\xff\xfe'\n",
    "python2.py": b"print 'hello'\n",
    "site-packages/not_ours.py": b"print 'not part of it'\n",
    "notes.txt": b"no Python",
}


@pytest.fixture
def library(tmp_path):
    for name, content in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def rows(report):
    """Return the table of calls: by function, the calls, then the failures as text."""
    table = report.partition("What CallPyBack saw")[2].partition("The slowest call")[0]
    found = re.findall(r"^ {2}(\w+) +([\d,]+) +(0|(?:\d+ \w+))\s", table, re.MULTILINE)
    return {name: (int(calls.replace(",", "")), failures) for name, calls, failures in found if name != "function"}


def test_the_census_counts_calls_and_failures(library):
    done = run(EXAMPLES / "census.py", library)
    assert done.stderr == ""
    assert "7 of 7 files" in done.stdout
    assert "10 lines, 0 classes, 1 functions, 100% of them with a docstring" in done.stdout
    assert "1 names in __all__; the longest function: add in good.py, 3 lines" in done.stdout
    assert rows(done.stdout) == {
        "source_files": (1, "0"),
        "read_source": (7, "0"),
        "decode": (7, "1 UnicodeDecodeError"),
        "parse": (5, "1 SyntaxError"),
        "measure": (4, "0"),
        "public_names": (4, "1 ValueError"),
    }
    assert re.search(r"\n  decode .* 1 UnicodeDecodeError .*\n +1 SyntaxError +\n", done.stdout)


def test_the_census_shows_locals_of_failures_and_arguments_of_slow_calls(library):
    report = run(EXAMPLES / "census.py", library).stdout
    _, _, slowest = report.partition("The slowest call of each")
    slowest, _, failures = slowest.partition("The failures")
    assert re.search(r"  read_source +\d+(\.\d+)? ms  path=\w+\.py\n", slowest)
    assert re.search(r"  measure +\d+(\.\d+)? ms  path=\w+\.py  tree=<ast.Module>  line_count=\d+\n", slowest)
    failures = " ".join(failures.split())
    assert "decode SyntaxError: unknown encoding: uft-8 path=misspelt.py coding_lines=[b'# -*- coding:" in failures
    assert "decode UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 7" in failures
    assert "parse SyntaxError: Missing parentheses in call to 'print'." in failures
    assert "path=python2.py line_count=1" in failures
    assert "ValueError: malformed node or string on line 1: <ast.ListComp>" in failures
    assert "path=computed.py declared='[name for name in dir()]'" in failures


def test_the_census_says_so_when_nothing_fails(tmp_path):
    (tmp_path / "good.py").write_bytes(LIBRARY["good.py"])
    assert (
        "Each of the 1 files could be read, decoded and parsed.\n\nNext" in run(EXAMPLES / "census.py", tmp_path).stdout
    )


def test_the_census_of_the_real_library_says_how_much_of_it_was_read():
    done = run(EXAMPLES / "census.py", "--seconds", "1.5")
    assert done.stderr == ""
    found = re.search(r"^([\d,]+) of ([\d,]+) files in (\d+\.\d) s$", done.stdout, re.MULTILINE)
    read, every = (int(number.replace(",", "")) for number in found.groups()[:2])
    assert 0 < read <= every == len(library_files())
    assert (read == every) != (f"the {every - read:,} largest left out" in done.stdout)
    calls = rows(done.stdout)
    assert calls["read_source"] == (read, "0")
    assert calls["parse"][0] <= calls["decode"][0] == read
    assert max(map(len, done.stdout.splitlines()[1:])) <= 100  # the first line ends in a path
    assert done.stdout.endswith("Next: docs/tutorial.md, 10 minutes from nothing to an observer of your own.\n")


def library_files():
    folder = Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages"}
    return [path for path in folder.rglob("*.py") if not installed & set(path.relative_to(folder).parts)]


def test_an_unwatched_census_is_the_same_program(library):
    watched, unwatched = (run(EXAMPLES / "census.py", library, *options).stdout for options in ((), ("--unwatched",)))
    census = re.compile(r"^  .*\n  .* names in __all__.*$", re.MULTILINE)
    assert census.search(watched)[0] == census.search(unwatched)[0]
    assert "What CallPyBack saw" not in unwatched


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_gets_a_progress_bar(library):
    import pty  # noqa: PLC0415 - there is none on Windows

    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error", "census.py", str(library)]
    environment = {**os.environ, "TERM": "xterm", "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment, cwd=EXAMPLES
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says so when the other end is closed
            while part := os.read(ours, 4096):
                shown += part
        assert process.wait(LIMIT) == 0
    os.close(ours)
    assert "━".encode() in shown  # the bar
    assert b"10 minutes from nothing" in shown
