"""Exact limits on every kind of callable, under threads, tasks, forks and clocks that fail."""

from __future__ import annotations

import asyncio
import copy
import doctest
import itertools
import json
import logging
import math
import pickle
import threading
import tracemalloc
from collections import defaultdict

import freezegun
import pytest

from callpyback import (
    CallPyBack,
    CallVetoed,
    ConfigurationError,
    FunctionSignature,
    MetricsObserver,
    MockTimeSource,
    StopProcessing,
    handle,
    on_call,
)
from callpyback.errors import RateLimitExceeded
from callpyback.guards import moving_window, rate_limit, tally
from callpyback.guards.moving_window import MovingWindow
from callpyback.guards.rate_limit import RateLimitObserver
from kinds import Witness, drive, ended
from test_concurrency import hurried, in_threads
from watching import run_python

__all__ = ["hurried"]

THREADS = 16
YEAR = 365 * 86400.0


@pytest.fixture(params=["straight", "general"])
def clock(request):
    """None for the system's clock, with which the wrapper runs other code; all limits here last for a year then."""
    return None if request.param == "straight" else MockTimeSource(1000.0)


