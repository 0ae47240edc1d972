"""mypy --strict and pyright see the types of the bare functions, and flag misuse (T45)."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import callpyback

API = Path(__file__).parent / "typing" / "api.py"
LIMIT = 300  # seconds: a type checker that starts without a cache on a busy machine

# Checked twice: as it is, and without its lines `@watch`. What is revealed must be the same. There is none above a
# property, because mypy takes no decorator at all there.
USER_CODE = """\
from __future__ import annotations
import abc
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property, lru_cache, singledispatch
from typing import Any, ParamSpec, TypeVar, overload
from callpyback import CallPyBack

watch = CallPyBack()
T = TypeVar("T")
P = ParamSpec("P")

@watch
def plain(a: int, /, b: str = "", *rest: float, c: bool = False, **options: bytes) -> list[int]:
    return [a]

@watch
async def coroutine(a: int) -> str:
    return str(a)

@watch
def generator(a: int) -> Generator[int, str, bytes]:
    yield a
    return b""

@watch
async def async_generator(a: int) -> AsyncGenerator[int, str]:
    yield a

@watch
def generic(items: list[T], default: T) -> T:
    return items[0] if items else default

@overload
def overloaded(x: int) -> int: ...
@overload
def overloaded(x: str) -> str: ...
@watch
def overloaded(x: int | str) -> int | str:
    return x

def twice(function: Callable[P, T]) -> Callable[P, tuple[T, T]]:
    def calling(*args: P.args, **kwargs: P.kwargs) -> tuple[T, T]:
        return function(*args, **kwargs), function(*args, **kwargs)
    return calling

@twice
@watch
def below(a: int, *, b: str) -> float:
    return 1.0

@watch
@twice
def above(a: int, *, b: str) -> float:
    return 1.0

@contextmanager
@watch
def opened(name: str) -> Generator[int]:
    yield 1

@watch
@asynccontextmanager
async def opened_later(name: str) -> AsyncGenerator[int]:
    yield 1

@watch
@lru_cache(maxsize=5)
def cached(a: int) -> str:
    return str(a)

@watch
@singledispatch
def dispatched(a: object) -> str:
    return str(a)

class Host(abc.ABC):
    @watch
    def __init__(self, name: str) -> None:
        self.name = name
    @watch
    def method(self, n: int, *, flag: bool = False) -> str:
        return self.name * n
    @classmethod
    @watch
    def below_classmethod(cls, n: int) -> str:
        return ""
    @watch
    @classmethod
    def above_classmethod(cls, n: int) -> str:
        return ""
    @staticmethod
    @watch
    def below_staticmethod(n: int) -> int:
        return n
    @watch
    @staticmethod
    def above_staticmethod(n: int) -> int:
        return n
    @property
    @watch
    def below_property(self) -> int:
        return 1
    @cached_property
    @watch
    def below_cached(self) -> float:
        return 1.0
    @watch
    async def later(self, n: int) -> bytes:
        return b""
    @watch
    def items(self) -> Generator[int]:
        yield 1
    @watch
    def __call__(self, n: int) -> complex:
        return complex(n)
    @watch
    @abc.abstractmethod
    def abstract(self) -> None: ...

def use(host: Host) -> None:
    reveal_type(host.method)
    reveal_type(host.method(1))
    reveal_type(host.above_classmethod(1))
    reveal_type(host.above_staticmethod(1))
    reveal_type(host.below_property)
    reveal_type(host.below_cached)
    reveal_type(host.later)
    reveal_type(host.items)
    reveal_type(host(1))
    reveal_type(host.abstract)

reveal_type(plain)
reveal_type(plain(1))
reveal_type(coroutine)
reveal_type(generator)
reveal_type(async_generator)
reveal_type(generic)
reveal_type(generic([1], 2))
reveal_type(overloaded)
reveal_type(overloaded("a"))
reveal_type(below)
reveal_type(above)
reveal_type(opened)
reveal_type(opened_later)
reveal_type(cached)
reveal_type(cached(1))
reveal_type(dispatched)
reveal_type(Host)
reveal_type(Host.method)
reveal_type(Host.below_classmethod)
reveal_type(Host.above_classmethod)
reveal_type(Host.below_staticmethod)
reveal_type(Host.above_staticmethod)
reveal_type(watch(lambda a, b=2: (a, b)))
reveal_type(watch(len))
"""
REVEALED = {
    "mypy": re.compile(r'(\w+)\.py:(\d+)(?::\d+)?: note: Revealed type is "(.*)"'),
    "pyright": re.compile(r'(\w+)\.py:(\d+):\d+ - information: Type of ".*?" is "(.*)"'),
}


@dataclass
class Report:
    """What a type checker says about the user code, observed and bare, and about `typing/api.py`."""

    output: str
    revealed: dict[tuple[str, int], str]

    def errors_in(self, name: str) -> list[str]:
        return [line for line in self.output.splitlines() if f"{name}.py:" in line and re.search(r"\berror\b", line)]


@pytest.fixture(scope="module", params=["mypy", "pyright"])
def report(request, tmp_path_factory) -> Report:
    checker = request.param
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    folder = tmp_path_factory.mktemp(checker)
    observed, bare = folder / "observed.py", folder / "bare.py"
    observed.write_text(USER_CODE)
    bare.write_text(re.sub(r"^( *)@watch$", r"\1# bare", USER_CODE, flags=re.MULTILINE).replace("watch(", "("))
    options = {
        "mypy": ["--strict", "--cache-dir", str(folder / "cache"), "--no-error-summary", "--config-file", os.devnull],
        "pyright": ["--pythonpath", sys.executable],
    }
    package = Path(callpyback.__file__).parents[1]
    files = [str(path) for path in (*sorted(API.parent.glob("*.py")), observed, bare)]
    done = subprocess.run(
        [sys.executable, "-m", checker, *options[checker], *files],
        # A package that is not installed is found in the folder where the checker runs.
        cwd=folder if package.name == "site-packages" else package,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = REVEALED[checker].finditer(done.stdout)
    revealed = {(match[1], int(match[2])): match[3].replace("observed.", "bare.") for match in found}
    return Report(done.stdout + done.stderr, revealed)


def test_user_code_has_the_types_it_says_and_its_misuse_is_flagged(report):  # T45
    assert report.errors_in("api") == []


def test_decorated_functions_are_revealed_as_the_bare_ones(report):  # T45
    bare = {line: text for (name, line), text in report.revealed.items() if name == "bare"}
    observed = {line: text for (name, line), text in report.revealed.items() if name == "observed"}
    assert len(bare) == USER_CODE.count("reveal_type(")
    lines = USER_CODE.splitlines()
    assert {lines[n - 1]: text for n, text in observed.items()} == {lines[n - 1]: text for n, text in bare.items()}


def test_decorating_is_no_error_anywhere_in_user_code(report):  # T45
    assert report.errors_in("observed") == report.errors_in("bare") == []
