"""Passes on some of the calls: a part of them, the first ones, and those that fail or are slow."""

from __future__ import annotations

import copy
import math
import random as random_module
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from callpyback.core.configuration import checked_seconds, checked_switch, looking_at, refuse
from callpyback.core.forks import reset_after_fork
from callpyback.core.notices import RetryNotice
from callpyback.core.safe_repr import one_line
from callpyback.core.state_machine import TERMINAL_STATES, ExecutionState, Outcome
from callpyback.observers.parts.relay import RelayObserver
from callpyback.observers.parts.tally import Tally

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.core.functions import FunctionSignature
    from callpyback.events.event import Event
    from callpyback.observers.base import States
    from callpyback.protocols import Begin, End

OVERFLOW: Final = "<overflow>"
"""Stands in the numbers for all functions beyond the first 2,000; they share `first` too."""

_MAX_FUNCTIONS: Final = 2000
_MAX_FIRST: Final = 1_000_000
_FAILED: Final = frozenset({Outcome.FAILURE, Outcome.TIMED_OUT, Outcome.HANDLED, Outcome.ABORTED})


class RandomSource(Protocol):
    """What decides by chance; `random.Random` is one."""

    def random(self) -> float:
        """Return a number from 0 on and below 1."""
        ...


class Sampled:
    """The numbers of one function."""

    def __init__(self, first: int) -> None:
        self.renew(first)

    def renew(self, first: int) -> None:
        """Start anew."""
        self.seen, self.sampled, self.kept = Tally(), Tally(), Tally()
        self.first: list[None] = [None] * first  # a call takes one: what is taken by `pop` is taken once

    def takes_first(self) -> bool:
        """Return whether this call is one of the first."""
        try:
            self.first.pop()
        except IndexError:
            return False
        return True

    def counts(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {"seen": self.seen.count, "sampled": self.sampled.count, "kept": self.kept.count}


class SamplingObserver(RelayObserver):
    """Passes a sample of the calls on to another observer: by chance, the first of each function, and the notable ones.

    Whole calls are sampled: what is decided when the observer would first hear of a call holds to its end, so who is
    told PRE_EXECUTION is told the terminal state. A call that was not chosen and then fails, or was slow, is passed on
    from there: the observer hears POST_FAILURE, or POST_SUCCESS, if it wants that, and the terminal state, and has not
    heard of the beginning. A body that failed and is to run again counts as failing.

    An observer that is told plain values at the ends of calls alone (`bind`), such as `TimingObserver` and
    `LoggingObserver` with their defaults, is sampled at the end, without a context: a call that is not passed on then
    costs less than two hand-written timers. Notices (retries, progress) that such an observer asks for are decided one
    by one. For others a call makes contexts, as many as there are states that the observer wants.

    Of the events of a bus a part is passed on, and the first of each name.

    `get_metrics` tells how many calls were seen. To estimate another total from the calls that were passed on, count
    each that failed or was slow once, since all of these are there, and each other one `1 / rate` times.

    Args:
        observer: Who is told. Guards and critical observers are refused, and what is told plain values at the beginning
            of calls and has no `update(context)`.
        rate: The part of the calls that is passed on, from 0 to 1.
        first: How many calls of each function are passed on whatever chance says.
        always_failures: Pass on every call that failed, timed out or was aborted, handled or not; not those that were
            vetoed, cancelled or abandoned.
        slow: Pass on every call whose body ran longer than so many seconds; None for no such rule.
        random: What decides by chance: an object with `random()`, such as `random.Random(7)`. By default one of its
            own, so that the program's random numbers stay as they are, seeded anew in a forked child.
        states: What the observer is told; by default its own `states`.
        priority: Higher is told earlier; by default that of the observer.
        name: How it is shown; by default as the observer.

    Raises:
        ConfigurationError: A parameter is none of these.

    Example:
        >>> from random import Random
        >>> from callpyback import CallPyBack, on_completion
        >>> passed = []
        >>> sampling = SamplingObserver(on_completion(passed.append), rate=0.1, first=2, random=Random(7))
        >>> @CallPyBack(observers=[sampling], default_return=None)
        ... def half(n):
        ...     return 1000 / (n - 50)
        >>> for n in range(100):
        ...     _ = half(n)
        >>> [context.arguments["n"] for context in passed if context.is_failed]
        [50]
        >>> sampling.get_metrics()["seen"], len(passed)
        (100, 16)
    """

    def __init__(
        self,
        observer: Any,
        *,
        rate: float = 0.1,
        first: int = 0,
        always_failures: bool = True,
        slow: float | None = None,
        random: RandomSource | None = None,
        states: States | None = None,
        priority: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(observer, states=states, priority=priority, name=name)
        self.rate = rate
        self._first = _checked_first(first)
        self._always_failures = checked_switch("always_failures", always_failures)
        self._slow = None if slow is None else checked_seconds("slow", slow, zero=True)
        self._random = _checked_random(random)
        self._sampled: dict[tuple[str, str], Sampled] = {}
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._key: Any = object()
        if type(self._random) is _OwnRandom:
            reset_after_fork(self, "_reseed")

    def _reseed(self) -> None:
        self._random = _OwnRandom()

    @property
    def rate(self) -> float:
        """The part of the calls that is passed on by chance. May be set at any time."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = _checked_rate(rate)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing is called from which an observed function could be called."""
        is_builtin = getattr(type(self._random), "random", None) is random_module.Random.random
        return is_builtin and getattr(self.observer, "is_leaf", False) is True

    def passes(self, context: ExecutionContext) -> bool:
        """Return whether the observer is told this; the decision is kept in `context.slot` until the call ends."""
        if self._hears_ends_alone:
            if context.state in TERMINAL_STATES:
                return self._is_chosen(context) or self._is_kept(context)
            if context.notice is not None:
                is_failing = self._always_failures and isinstance(context.notice, RetryNotice)
                return is_failing or self._random.random() < self._rate
        decisions = self.decisions_of(context)
        chosen: bool | None = decisions.get(self._key)
        if chosen is None:
            chosen = decisions[self._key] = self._is_chosen(context)
        if not chosen and context.state is not ExecutionState.PRE_EXECUTION and self._is_kept(context):
            chosen = decisions[self._key] = True
        return chosen

    def _is_chosen(self, context: ExecutionContext) -> bool:
        signature = context.function_signature
        return self._draws(self._sampled_of(signature.module, signature.qualname))

    def _is_kept(self, context: ExecutionContext) -> bool:
        """Return whether a call that was not chosen is passed on from here because of how it goes, and count it."""
        if not self._is_notable(context):
            return False
        signature = context.function_signature
        next(self._sampled_of(signature.module, signature.qualname).kept)
        return True

    def passes_event(self, event: Event) -> bool:
        """Return whether the observer is told of an event: by chance, or as one of the first of its name."""
        return self._draws(self._sampled_of("", event.name))

    def _draws(self, sampled: Sampled) -> bool:
        next(sampled.seen)
        if (sampled.first and sampled.takes_first()) or self._random.random() < self._rate:
            next(sampled.sampled)
            return True
        return False

    def _is_notable(self, context: ExecutionContext) -> bool:
        if self._always_failures:
            state = context.state
            if state is ExecutionState.POST_FAILURE:
                return True
            if state in TERMINAL_STATES:
                if context.outcome in _FAILED:
                    return True
            elif isinstance(context.notice, RetryNotice):
                return True
        if self._slow is None:
            return False
        elapsed = context.execution_time
        return elapsed is not None and elapsed > self._slow

    def _bound_by(self) -> Callable[[FunctionSignature], tuple[Begin | None, End | None] | None]:
        """Have the observer be told of one function's calls without a context, if it is told of their ends alone."""
        if not callable(getattr(self.observer, "bind", None)) or type(self).passes is not SamplingObserver.passes:
            message = f"observer {self.name!r} has no bind(function_signature)"
            raise AttributeError(message)
        return self._bind

    bind: Any = property(_bound_by)

    def _bind(self, function_signature: FunctionSignature) -> tuple[None, End] | None:
        bound = self.observer.bind(function_signature)
        if bound is None:
            return None
        begin, tell = bound
        if begin is not None or tell is None:
            # Whether a call is passed on at its end must be known from its beginning, and plain values carry nothing.
            if not callable(getattr(self.observer, "update", None)):
                refuse("observer", self.observer, "one with update(context), or whose bind() gives no begin")
            return None
        return None, self._end_of(self._sampled_of(function_signature.module, function_signature.qualname), tell)

    def _end_of(self, sampled: Sampled, tell: End) -> End:
        slow, success = math.inf if self._slow is None else self._slow, Outcome.SUCCESS
        notable: frozenset[Outcome] = _FAILED if self._always_failures else frozenset()

        def end(elapsed: float, value: Any, exception: BaseException | None, outcome: Outcome) -> None:
            next(sampled.seen)
            if (sampled.first and sampled.takes_first()) or self._random.random() < self._rate:
                next(sampled.sampled)
            elif elapsed > slow or (outcome is not success and outcome in notable):
                next(sampled.kept)
            else:
                return
            tell(elapsed, value, exception, outcome)

        return end

    def get_metrics(self) -> dict[str, Any]:
        """Return how many calls were seen, `sampled` by chance or as the first, and `kept` because of how they ended.

        All in all and under `functions` for each function, by `module.qualname`. If the observer has `get_metrics`,
        what that returns is under `observer`.
        """
        found = list(self._sampled.items())
        functions = {one_line(".".join(filter(None, names))): sampled.counts() for names, sampled in found}
        totals = {name: sum(counts[name] for counts in functions.values()) for name in ("seen", "sampled", "kept")}
        return self._with_observer({**totals, "rate": self._rate, "functions": functions})

    def reset(self) -> None:
        """Start the counts anew, `first` included, and have the observer forget what it collected."""
        for sampled in list(self._sampled.values()):
            sampled.renew(self._first)  # in place: bound functions hold on to it
        super().reset()

    def _sampled_of(self, module: str, qualname: str) -> Sampled:
        names = (module, qualname)
        found = self._sampled.get(names)
        if found is None:
            if len(self._sampled) >= _MAX_FUNCTIONS:
                names = ("", OVERFLOW)
            found = self._sampled.setdefault(names, Sampled(self._first))
        return found

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_sampled": copy.deepcopy(self._sampled)}
        del state["_key"]
        if type(self._random) is _OwnRandom:
            state["_random"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._random is None:
            self._random = _OwnRandom()
        self._begin_anew()


class _OwnRandom(random_module.Random):
    """The one of an observer that was given none, which may be replaced by another."""


def _checked_rate(rate: Any) -> float:
    with looking_at("rate", rate):
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
            refuse("rate", rate, "a number from 0 to 1, such as 0.1 for a tenth of the calls")
        return float(rate)


def _checked_first(first: Any) -> int:
    with looking_at("first", first):
        if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first <= _MAX_FIRST:
            refuse("first", first, f"a whole number from 0 to {_MAX_FIRST:,}")
        return first


def _checked_random(random: Any) -> Any:
    with looking_at("random", random):
        if random is None:
            return _OwnRandom()
        if isinstance(random, type) or not callable(getattr(random, "random", None)):
            refuse("random", random, "an object with random(), such as random.Random(7)")
        return random
