"""Runs the code blocks of README.md and docs/, and keeps test runs honest about what they import."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

import callpyback

# Blocks marked `python` run, in order and in one namespace a page; any other block is only read.
# `<!--- skip: next -->` before a block leaves it out.
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
).pytest()


def _wheel_is_meant() -> bool:
    """`make` sets the variable; the processes that pytest-xdist starts inherit it."""
    return "CALLPYBACK_FROM_WHEEL" in os.environ


def pytest_configure() -> None:
    """Refuse to test the checkout where the installed wheel was meant."""
    if not _wheel_is_meant():
        return
    found = Path(callpyback.__file__).resolve()
    site_packages = Path(sysconfig.get_path("purelib")).resolve()
    if site_packages not in found.parents:
        raise pytest.UsageError(f"callpyback is imported from {found}, not from the wheel in {site_packages}")


def pytest_report_header() -> str | None:
    """Say which callpyback the run is about."""
    return f"callpyback: {callpyback.__file__}" if _wheel_is_meant() else None
