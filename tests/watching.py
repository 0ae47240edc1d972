"""Decorates as the library does, and remembers what each call captured."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import textwrap

from callpyback.core.variable_extraction import (
    TracingVariableExtractor,
    bind_extractor,
)

KINDS = {
    "function": "function",
    "coroutine": "coroutine function",
    "generator": "generator function",
    "async generator": "async generator function",
}
HAS_MONITORING = sys.version_info >= (3, 12)


def watch(function, *names, extractor=None, kind="function", report=None):
    """Decorate as the library does; what each call captured is in `.seen`, in the order the calls end."""
    binding = bind_extractor(extractor or TracingVariableExtractor(), function, names, kind, report)
    seen = []

    def wrapper(*args, **kwargs):
        state = binding.begin()
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            seen.append(binding.raised(state, error))
            raise
        seen.append(binding.returned(state))
        return value

    async def coroutine_wrapper(*args, **kwargs):
        inner = function(*args, **kwargs)
        state = binding.begin(inner)
        try:
            value = await inner
        except GeneratorExit:
            seen.append(binding.abandoned(state))
            raise
        except BaseException as error:
            seen.append(binding.raised(state, error))
            raise
        seen.append(binding.returned(state))
        return value

    def generator_wrapper(*args, **kwargs):
        inner = function(*args, **kwargs)
        state = binding.begin(inner)
        try:
            value = yield from inner
        except GeneratorExit:
            seen.append(binding.abandoned(state))
            raise
        except BaseException as error:
            seen.append(binding.raised(state, error))
            raise
        seen.append(binding.returned(state))
        return value

    async def async_generator_wrapper(*args, **kwargs):
        inner = function(*args, **kwargs)
        state = binding.begin(inner)
        try:
            item = await anext(inner)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    item = await inner.athrow(error)
                else:
                    item = await inner.asend(sent)
        except StopAsyncIteration:
            pass
        except GeneratorExit:
            seen.append(binding.abandoned(state))
            raise
        except BaseException as error:
            seen.append(binding.raised(state, error))
            raise
        seen.append(binding.returned(state))

    made = {
        "function": wrapper,
        "coroutine function": coroutine_wrapper,
        "generator function": generator_wrapper,
        "async generator function": async_generator_wrapper,
    }[kind]
    with contextlib.suppress(AttributeError):
        functools.update_wrapper(made, function)
    made.seen, made.binding = seen, binding
    return made


def watching(*names, **options):
    return lambda function: watch(function, *names, **options)


def passing(function):
    """Stand for somebody else's decorator."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def passing_async(function):
    """Stand for somebody else's decorator of coroutine functions."""

    @functools.wraps(function)
    async def wrapper(*args):
        return await function(*args)

    return wrapper


def passing_generator(function):
    """Stand for somebody else's decorator of generator functions."""

    @functools.wraps(function)
    def wrapper(*args):
        return (yield from function(*args))

    return wrapper


def run(*arguments, stdin=""):
    """Run a Python of its own, with a time limit; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_python(source):
    """Run source code in a Python of its own."""
    return run("-c", textwrap.dedent(source))


class Thing:
    """Can be weakly referenced."""
