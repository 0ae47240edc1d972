"""User code that type checkers read; nobody runs it. Decorated functions have the types of the bare ones.

Each `# type: ignore` is a misuse that must be flagged: unused ones are errors here.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedFunction=false
from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property, partial
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, assert_type, overload

from callpyback import (
    BackgroundObserver,
    BaseObserver,
    BatchingObserver,
    BindableGuard,
    BindableObserver,
    CacheObserver,
    CallPyBack,
    CallVetoed,
    CircuitBreakerObserver,
    ConcurrencyLimitObserver,
    CurrentCall,
    ErrorHandler,
    ErrorHandlerBuilder,
    ErrorHandlerChain,
    ExecutionContext,
    ExecutionFailure,
    ExecutionResult,
    ExecutionState,
    FunctionHandle,
    FunctionSignature,
    MetricsObserver,
    MockTimeSource,
    Notice,
    Observer,
    Outcome,
    ProgressNotice,
    ProgressObserver,
    RateLimitObserver,
    Retry,
    RetryNotice,
    Shared,
    StateMachine,
    StopProcessing,
    SystemTimeSource,
    TimeSource,
    Wait,
    current_call,
    factory,
    handle,
    on_call,
    on_progress,
    on_retry,
    on_success,
)
from callpyback.handlers import DefaultErrorHandler, Handler, NetworkErrorHandler

T = TypeVar("T")
P = ParamSpec("P")

watch = CallPyBack()
watch_closely = CallPyBack(
    [MetricsObserver(), on_success(print)],
    variable_names=["total"],
    exception_classes=(ValueError, KeyError),
    default_return=factory(list),
    max_observer_failures=3,
    time_source=MockTimeSource(),
    metadata={"team": "shop"},
)


# Functions of every kind


@watch
def plain(a: int, /, b: str = "", *rest: float, c: bool = False, **options: bytes) -> list[int]:
    return [a]


@CallPyBack()
async def coroutine(a: int) -> str:
    return str(a)


@watch_closely
def generator(a: int) -> Generator[int, str, bytes]:
    yield a
    return b""


@watch
async def async_generator(a: int) -> AsyncIterator[int]:
    yield a


assert_type(plain(1, "b", 2.0, c=True, d=b""), list[int])
plain("1")  # type: ignore[arg-type]
plain(a=b"")  # type: ignore[call-arg]
plain(1, c="no")  # type: ignore[arg-type]
assert_type(generator(1), Generator[int, str, bytes])
assert_type(async_generator(1), AsyncIterator[int])
assert_type(list(generator(1)), list[int])


async def awaiting() -> None:
    assert_type(await coroutine(1), str)
    await coroutine("1")  # type: ignore[arg-type]
    assert_type([n async for n in async_generator(1)], list[int])


# Methods


class Shop:
    @watch
    def __init__(self, name: str) -> None:
        self.name = name

    @watch
    def method(self, n: int) -> str:
        return self.name * n

    @classmethod
    @watch
    def below_classmethod(cls, n: int) -> Shop:
        return cls("s" * n)

    @watch
    @classmethod
    def above_classmethod(cls, n: int) -> Shop:
        return cls("s" * n)

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
    def size(self) -> int:
        return len(self.name)

    @cached_property
    @watch
    def area(self) -> float:
        return 2.0

    @watch
    async def later(self) -> bytes:
        return b""

    @watch
    def __call__(self, n: int) -> complex:
        return complex(n)

    @watch
    def __enter__(self) -> Self:
        return self

    @watch
    def __exit__(self, *exc_info: object) -> None: ...


shop = Shop("s")
Shop(5)  # type: ignore[arg-type]
assert_type(shop.method(2), str)
assert_type(Shop.method(shop, 2), str)
shop.method("2")  # type: ignore[arg-type]
assert_type(Shop.below_classmethod(1), Shop)
assert_type(shop.below_classmethod(1), Shop)
assert_type(Shop.above_classmethod(1), Shop)
assert_type(shop.above_classmethod(1), Shop)
assert_type(Shop.below_staticmethod(1), int)
assert_type(shop.above_staticmethod(1), int)
assert_type(shop.size, int)
assert_type(shop.area, float)
assert_type(shop(1), complex)
with shop as entered:
    assert_type(entered, Shop)


class Base(abc.ABC):
    @watch
    @abc.abstractmethod
    def work(self) -> int: ...


class Derived(Base):
    @watch
    def work(self) -> int:
        return 5


Base()  # type: ignore[abstract]
assert_type(Derived().work(), int)


class Works(Protocol):
    def work(self) -> int: ...


def use(worker: Works) -> int:
    return worker.work()


use(Derived())


# Generic and overloaded functions, and decorators that take parameters on


@watch
def first(items: list[T]) -> T:
    return items[0]


assert_type(first([1]), int)
assert_type(first(["a"]), str)


@overload
def double(x: int) -> int: ...
@overload
def double(x: str) -> str: ...
@watch
def double(x: int | str) -> int | str:
    return x * 2


assert_type(double(1), int)
assert_type(double("a"), str)
double(1.0)  # type: ignore[call-overload]


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


assert_type(below(1, b=""), tuple[float, float])
assert_type(above(1, b=""), tuple[float, float])
below(1, b=2)  # type: ignore[arg-type]
above(1)  # type: ignore[call-arg]


@contextmanager
@watch
def opened(name: str) -> Generator[int]:
    yield 1


@asynccontextmanager
@watch
async def opened_later(name: str) -> AsyncGenerator[int]:
    yield 1


with opened("a") as number:
    assert_type(number, int)


async def entering() -> None:
    async with opened_later("a") as n:
        assert_type(n, int)


class Box(Generic[T]):
    def __init__(self, content: T) -> None:
        self.content = content

    @watch
    def get(self) -> T:
        return self.content

    @watch
    def map(self, function: Callable[[T], P1]) -> Box[P1]:
        return Box(function(self.content))


P1 = TypeVar("P1")
assert_type(Box(1).get(), int)
assert_type(Box(1).map(str), Box[str])


# Callables that are no functions


class Adder:
    def __call__(self, n: int) -> int:
        return n


assert_type(watch(Adder()), Adder)
assert_type(watch(Adder())(1), int)
assert_type(watch(partial(plain, 1))(), list[int])
assert_type(watch(len)([1]), int)
assert_type(watch(lambda: str(5))(), str)


# Misuse


@CallPyBack  # type: ignore[arg-type]
def bare(a: int) -> int:
    return a


CallPyBack(MetricsObserver())  # type: ignore[arg-type]
CallPyBack(observer=[])  # type: ignore[call-arg]
CallPyBack(max_observer_failures="5")  # type: ignore[arg-type]
CallPyBack(exception_classes=(5,))  # type: ignore[arg-type]


# The handle, its hooks and observers

known = handle(plain)
assert_type(known, FunctionHandle)
assert_type(known.signature, FunctionSignature)
assert_type(known.signature.name, str)


@known.on_success
def noting(value: list[int]) -> None: ...


@handle(shop.method).on_failure(priority=5, name="alert")
def alert(exception: BaseException, arguments: dict[str, Any]) -> int:
    return 5


assert_type(noting([1]), None)
assert_type(alert(ValueError(), {}), int)
noting("no")  # type: ignore[arg-type]
known.on_success(priority="high")  # type: ignore[call-overload]
known.add_observer(MetricsObserver(), states=[ExecutionState.COMPLETED], weak=True)
known.enable_observer("MetricsObserver")
with known.paused():
    plain(1)
with CallPyBack() as decorator:
    assert_type(decorator, CallPyBack)
assert_type(decorator.get_metrics(), dict[str, Any])


# What users write


class Counting(BaseObserver):
    def update(self, context: ExecutionContext) -> None:
        assert_type(context.state, ExecutionState)
        assert_type(context.outcome, Outcome | None)
        assert_type(context.arguments, dict[str, Any])
        assert_type(context.local_variables, dict[str, Any])
        assert_type(context.execution_time, float | None)
        assert_type(context.timestamp, float)
        assert_type(context.result, ExecutionResult | ExecutionFailure | None)
        if context.result is not None:
            assert_type(context.result.exception, BaseException | None)
            assert_type(context.result.execution_time, float)
        context.state = ExecutionState.ERROR  # type: ignore[misc]


class Duck:
    priority = 5

    def update(self, context: ExecutionContext) -> None: ...


class LaterDuck:
    priority: float = 1.5

    async def update(self, context: ExecutionContext) -> None: ...


class Bound:
    priority = 0

    def bind(
        self, function_signature: FunctionSignature
    ) -> tuple[Callable[[], object], Callable[[float, Any, BaseException | None, Outcome], object]] | None:
        return None


class Lenient:
    def handle_error(self, error: Exception, context: ExecutionContext) -> Any:
        raise error


class Clock:
    def now(self) -> float:
        return 0.0


observers: list[Observer] = [Counting(), Duck(), LaterDuck(), on_call(print)]
bindable: list[BindableObserver] = [Bound(), MetricsObserver()]
handlers: list[ErrorHandler] = [Lenient()]
clocks: list[TimeSource] = [Clock(), SystemTimeSource(), MockTimeSource()]
CallPyBack([*observers, *bindable], error_handler=handlers[0], time_source=clocks[0])


def deciding(context: ExecutionContext) -> None:
    if context.arguments:
        raise CallVetoed("no")
    raise StopProcessing(5)


machine = StateMachine()
assert_type(machine.current_state, ExecutionState)
assert_type(machine.state_history, tuple[ExecutionState, ...])
machine.transition_to(ExecutionState.PRE_EXECUTION)


def passed_on(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    return watch(function)


assert_type(passed_on(coroutine)(1), Awaitable[str])


# Steering


def tenant(arguments: dict[str, Any]) -> str:
    return str(arguments["tenant"])


chain: ErrorHandlerChain = (
    ErrorHandlerBuilder()
    .add_timeout_handler(default_return="late")
    .add_validation_handler(reraise=True)
    .add_network_handler(retry_count=3)
    .add_business_logic_handler({KeyError: "unknown"})
    .add_default_handler(None)
    .build()
)
either: ErrorHandlerChain = Handler(KeyError, value=0) | NetworkErrorHandler() | DefaultErrorHandler()
as_handler: ErrorHandler = chain
cache = CacheObserver(ttl_seconds=60, maxsize=128, key=tenant)
later = BackgroundObserver(Counting(), max_queue=100, overflow="drop_newest")
batches = BatchingObserver(print, batch_size=10, flush_interval=1.0)
steered = CallPyBack(
    [
        cache,
        RateLimitObserver(10, 1.0, key=tenant),
        CircuitBreakerObserver(failure_threshold=3, on=(OSError, TimeoutError)),
        ConcurrencyLimitObserver(4, wait=0.5),
        later,
        batches,
        on_retry(print),
        on_progress(print, priority=3),
        ProgressObserver(description="load", transient=True),
    ],
    retry=Retry(attempts=3, on=ConnectionError, wait=lambda attempt: 0.1 * attempt),
    error_handler=chain,
    max_execution_time=2.5,
    enable_async_observers=True,
)


@steered
async def steered_coroutine(tenant: str) -> bytes:
    return tenant.encode()


async def awaiting_steered() -> None:
    assert_type(await steered_coroutine("ann"), bytes)


class OneAtATime:
    """A guard that needs no context."""

    priority = 50
    guard = True
    notices = frozenset({Notice.RETRY})

    def bind_guard(
        self, function_signature: FunctionSignature, clock: Callable[[], float]
    ) -> tuple[Callable[[tuple[Any, ...], dict[str, Any]], Any], None]:
        def admit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Wait | None:
            return None

        return admit, None


guarding: BindableGuard = OneAtATime()
assert_type(steered.flush(1.0), bool)
assert_type(later.flush(timeout=1.0), bool)


@watch
def inside(names: list[str]) -> None:
    call = current_call()
    assert_type(call, CurrentCall)
    call["names"] = names
    call.tag(first=names[0], count=len(names))
    for name in call.track(names):
        assert_type(name, str)
    call.progress(1, total=3.5)
    assert_type(call.call_id, str | None)
    assert_type(call.depth, int)
    assert_type(bool(call), bool)
    call.tags["names"] = []  # type: ignore[index]
    call.track(5)  # type: ignore[call-overload]


@watch
async def inside_async(names: AsyncIterator[bytes]) -> None:
    async for name in current_call().track(names):
        assert_type(name, bytes)


class SeesInside(BaseObserver):
    notices = frozenset({Notice.PROGRESS, Notice.RETRY})
    traces_calls = True

    def update(self, context: ExecutionContext) -> None:
        assert_type(context.parent_call_id, str | None)
        assert_type(context.depth, int)
        assert_type(context.tags, dict[Any, Any])
        assert_type(context.shared, Shared)
        context.shared.mine.anything = context.depth
        assert_type(context.notice, RetryNotice | ProgressNotice | None)
        if isinstance(context.notice, ProgressNotice):
            assert_type(context.notice.fraction, float | None)
