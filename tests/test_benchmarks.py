"""The benchmarks run. What they measure is no test's business: no assertion here looks at a clock."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"

NAMES = [
    "nothing_attached",
    "built_ins",
    "contexts",
    "callbacks",
    "choosing",
    "current_call",
    "failures",
    "captured_locals",
    "guards",
    "background",
    "events",
    "ready_made",
    "other_libraries",
    "imports",
    "resident_memory",
    "bounded_memory",
]


@pytest.fixture(scope="module")
def benchmarks():
    """The package beside the tests, without putting the checkout on the path: the installed callpyback is measured."""
    package = FOLDER / "__init__.py"
    spec = importlib.util.spec_from_file_location("benchmarks", package, submodule_search_locations=[str(FOLDER)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)
    yield importlib.import_module("benchmarks.__main__")
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


@pytest.fixture
def tiny(benchmarks, monkeypatch):
    """As little as can be measured at all."""
    bench_locals = sys.modules["benchmarks.bench_locals"]
    monkeypatch.setattr(bench_locals, "_ROUNDS", 1)
    monkeypatch.setattr(bench_locals, "_CHUNK_SECONDS", 1e-5)
    monkeypatch.setattr(sys.modules["benchmarks.callbacks"], "LINEAR", (2, 20))
    return sys.modules["benchmarks.measuring"].Budget(rounds=1, turn=1e-5, scale=0.001)


def test_every_benchmark_is_in_the_run(benchmarks):
    assert list(benchmarks.BENCHMARKS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("default")  # the other libraries' own warnings
def test_benchmark_gives_finite_figures_or_says_why_not(benchmarks, tiny, name):
    rows = benchmarks.BENCHMARKS[name].rows(tiny)
    assert rows
    assert len({row.what for row in rows}) == len(rows)
    for row in rows:
        if row.measured is None:
            assert row.note, row
        else:
            assert math.isfinite(row.measured), row
            assert row.measured > 0 or row.is_difference, row


def test_bar_that_is_missed_fails_nothing(benchmarks, tiny, monkeypatch, capsys):
    table = sys.modules["benchmarks.table"]
    missed = [table.Row("nothing is fast enough", 2.0, bar=1.0), table.skipped("magic", "not of this world")]
    monkeypatch.setattr(sys.modules["benchmarks.contexts"], "rows", lambda _: missed)
    benchmarks.main(["contexts", "--quick"])
    printed = capsys.readouterr().out
    assert "MISSED" in printed
    assert "not of this world" in printed


def test_json_has_what_the_table_has(benchmarks, tiny, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "QUICK", tiny)
    benchmarks.main(["nothing_attached", "--quick", "--json"])
    printed = json.loads(capsys.readouterr().out)
    rows = printed["results"]["nothing_attached"]
    assert {"what", "measured", "unit", "bar", "verdict", "seconds", "note"} <= set(rows[0])
    assert rows[0]["verdict"] in {"met", "MISSED"}


def test_unknown_benchmark_is_refused_by_name(benchmarks, capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["nonsense"])
    assert "no benchmark nonsense" in capsys.readouterr().err


def test_subject_that_suspends_is_refused(benchmarks):
    measuring = sys.modules["benchmarks.measuring"]

    class Suspends:
        def __await__(self):
            yield

    async def suspending(_):
        await Suspends()

    with pytest.raises(RuntimeError, match="suspended"):
        measuring.awaited(suspending).run(1)


def test_calls_are_made_as_often_as_asked(benchmarks):
    measuring = sys.modules["benchmarks.measuring"]
    seen = []

    async def coroutine(argument):
        seen.append(argument)

    def generator(argument):
        seen.append(argument)
        yield

    async def async_generator(argument):
        seen.append(argument)
        yield

    def failing(argument):
        seen.append(argument)
        raise ValueError

    subjects = [
        measuring.called(seen.append),
        measuring.awaited(coroutine),
        measuring.iterated(generator),
        measuring.iterated_async(async_generator),
        measuring.caught(failing),
    ]
    for subject in subjects:
        seen.clear()
        subject.run(3)
        assert seen == [measuring.ARGUMENT] * 3
