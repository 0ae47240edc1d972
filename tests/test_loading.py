"""Nothing the package reads can run code: no unpickling, no `eval` of what it did not write itself (S15, S16, S21)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import callpyback

PACKAGE = Path(callpyback.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
DANGEROUS = {"marshal", "pickle", "shelve", "subprocess"}
# Each compiles or runs text that the library has made of its own tables, never of a user's; or says why not.
OWN_TEXT = {
    "core/proxies.py": {"__import__"},  # finds a decorated builtin by its name, as unpickling a function does
    "core/wrappers.py": {"compile"},
    "observers/callback.py": {"eval"},
    "observers/callback_parameters.py": {"compile"},
}


def called(tree):
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def imported(tree):
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.partition(".")[0]
        for name in names | {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_loads_and_runs_nothing_from_outside(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = OWN_TEXT.get(path.relative_to(PACKAGE).as_posix(), set())
    assert called(tree) & {"eval", "exec", "compile", "__import__"} <= allowed
    assert not imported(tree) & DANGEROUS
    loads = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & {
        "load_all",
        "unsafe_load",
        "full_load",
    }
    assert not loads
