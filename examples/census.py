"""A census of Python's own standard library, watched: `python examples/census.py`.

The program reads, decodes, parses and measures the source files under the interpreter's library folder, smallest
first, until its time is up. It is a program like any other; all there is to see of the watching is `@watch` on its
functions, and the tables at the end. Some files of the library are broken on purpose, for the tests of Python itself:
they fail here, too. `--unwatched` runs the same program with nobody watching.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import io
import os
import sys
import sysconfig
import time
import tokenize
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from census_report import FailureLog, SlowestCalls, progress_display, show_report

from callpyback import CallPyBack, MetricsObserver, on_failure

metrics = MetricsObserver()
slowest = SlowestCalls()
failures = FailureLog()
watch = CallPyBack(
    observers=[metrics, slowest, on_failure(failures.note)],
    variable_names=["path", "coding_lines", "line_count", "declared"],
)

LIBRARY = Path(sysconfig.get_path("stdlib"))
BATCH = 8  # files read at once, while nothing is parsed
Progress = Callable[[int], None]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@watch
def source_files(folder: Path) -> Iterator[Path]:
    """Walk the folder; what is installed into it is not part of the library."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".py"))


@watch
async def read_source(path: Path) -> bytes:
    """Read in another thread, because a file may be on a slow disk."""
    return await asyncio.to_thread(path.read_bytes)


@watch
def decode(path: Path, raw: bytes) -> str:  # noqa: ARG001 - so that a failure tells where
    """Decode as Python does: by the byte order mark, or the coding line among the first two, else as UTF-8."""
    coding_lines = list(islice(io.BytesIO(raw), 2))
    encoding, _ = tokenize.detect_encoding(iter(coding_lines).__next__)
    return raw.decode(encoding)


@watch
def parse(path: Path, text: str) -> tuple[ast.Module, int]:
    """Parse and count the lines; what the parser only warns of, such as an invalid escape, is not asked for."""
    line_count = text.count("\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, filename=str(path)), line_count


@watch
def public_names(path: Path, tree: ast.Module) -> list[str]:  # noqa: ARG001
    """Read `__all__`, where it is spelled out; some modules compute theirs, which only running them would tell."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            declared = ast.unparse(statement.value)
            return list(ast.literal_eval(declared))
    return []


def definitions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the functions and classes, nested ones included, without looking into expressions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            if isinstance(child, DEFINITIONS):
                yield child
            yield from definitions(child)


@dataclass
class Census:
    """What is in the library."""

    files: int = 0
    lines: int = 0
    classes: int = 0
    functions: int = 0
    documented: int = 0
    exported: int = 0
    longest: tuple[int, str] = (0, "none")
    unreadable: list[Path] = field(default_factory=list)

    @watch
    def measure(self, path: Path, tree: ast.Module, line_count: int) -> None:
        """Add up one file."""
        self.lines += line_count
        for found in definitions(tree):
            if isinstance(found, ast.ClassDef):
                self.classes += 1
                continue
            self.functions += 1
            self.documented += ast.get_docstring(found, clean=False) is not None
            length = (found.end_lineno or found.lineno) - found.lineno + 1
            self.longest = max(self.longest, (length, f"{found.name} in {path.name}"))

    def examine(self, path: Path, raw: bytes | BaseException) -> None:
        """Take one file into the census, or note that it cannot be read."""
        self.files += 1
        try:
            if isinstance(raw, BaseException):
                raise raw
            text = decode(path, raw)
            tree, line_count = parse(path, text)
        except (OSError, SyntaxError, ValueError, RecursionError):
            self.unreadable.append(path)
            return
        self.measure(path, tree, line_count)
        try:
            self.exported += len(public_names(path, tree))
        except (ValueError, TypeError, SyntaxError):
            pass  # the module computes them


async def take_census(paths: list[Path], seconds: float, progress: Progress) -> Census:
    """Examine the files in their order, until all are done or the time is up."""
    census = Census()
    deadline = time.monotonic() + seconds
    for start in range(0, len(paths), BATCH):
        if time.monotonic() > deadline:
            break
        batch = paths[start : start + BATCH]
        contents = await asyncio.gather(*map(read_source, batch), return_exceptions=True)
        for path, raw in zip(batch, contents, strict=True):
            census.examine(path, raw)
        progress(census.files)
    return census


def main() -> None:
    """Take the census, show it, and show what was seen of the calls."""
    parser = argparse.ArgumentParser(description="A census of Python's own standard library, watched by CallPyBack.")
    parser.add_argument("folder", nargs="?", type=Path, default=LIBRARY)
    parser.add_argument("--seconds", type=float, default=5.0, help="stop reading after so long (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="read every file, however long it takes")
    parser.add_argument("--unwatched", action="store_true", help="run the same program with nobody watching")
    options = parser.parse_args()
    if options.unwatched:
        watch.shutdown()

    began = time.perf_counter()
    paths = sorted(source_files(options.folder), key=lambda path: path.stat().st_size)
    if not paths:
        parser.error(f"no .py files under {options.folder}")
    title = f"Python {sys.version.split()[0]}'s own library, {LIBRARY}" if options.folder == LIBRARY else options.folder
    with progress_display(f"A census of {title}", len(paths)) as progress:
        census = asyncio.run(take_census(paths, float("inf") if options.all else options.seconds, progress))
    show_report(
        census=census,
        found=len(paths),
        seconds=time.perf_counter() - began,
        folder=options.folder,
        is_library=options.folder == LIBRARY,
        function_stats=metrics.get_metrics()["function_stats"],
        slowest=slowest,
        failures=failures,
    )


if __name__ == "__main__":
    main()
