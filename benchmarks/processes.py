"""Fresh interpreters, for what cannot be measured in one that has run for a while."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def printed_by(*arguments: str, compiled_in: str = "") -> str:
    """Return what a fresh interpreter prints that has the same import path as this one, and this package.

    Args:
        arguments: Those of the interpreter.
        compiled_in: A folder for compiled modules, so that the next one need not compile, whatever this process does.
    """
    paths = [*(path for path in sys.path if path), str(Path(__file__).resolve().parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    if compiled_in:
        environment |= {"PYTHONPYCACHEPREFIX": compiled_in, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def printed_by_module(module: str, *arguments: str) -> str:
    """Return what a module of this package prints."""
    return printed_by("-m", module, *arguments)
