"""Error handlers as users write them, and asking a handler by hand."""

from __future__ import annotations

from callpyback import ExecutionState
from callpyback.testing import build_context
from kinds import drive


class AuthorError(Exception):
    pass


class Translated(Exception):
    pass


class OwnHandler:
    """As a user writes one, without knowing this package."""

    def __init__(self, act):
        self.act = act

    def handle_error(self, error, context):
        return self.act(error, context)

    def __repr__(self):
        return "<OwnHandler>"


def failed(error, function="function", **options):
    return build_context(function, state=ExecutionState.POST_FAILURE, exception=error, **options)


def decided(handler, error, **options):
    """Return what a handler decides, having awaited what it wants awaited."""
    deciding = handler.decide(error, failed(error, **options))

    async def awaited():
        try:
            wanted = next(deciding)
            while True:
                try:
                    given = await wanted
                except Exception as raised:
                    wanted = deciding.throw(raised)
                else:
                    wanted = deciding.send(given)
        except StopIteration as stop:
            return stop.value

    return drive(awaited())


def raising(error):
    def function(*args):
        raise error

    return function


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError

    __iter__ = __bool__ = __eq__ = __hash__ = __repr__
