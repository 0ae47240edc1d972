"""A template for observers that make something of each call: choose, extract, process, store."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import FunctionKind, kind_of, signature_of
from callpyback.core.state_machine import TERMINAL_STATES
from callpyback.errors import ConfigurationError, nearest
from callpyback.observers.base import BaseObserver
from callpyback.observers.parts.settling import settled

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.observers.base import States

_STEPS: Final = ("should_process", "extract", "process", "store")
_REQUIRED: Final = ("extract", "store")
_TWO: Final = 2


class DataProcessor(Protocol):
    """A strategy for the step `process`."""

    def process(self, data: Any, context: ExecutionContext) -> Any:
        """Return what is to be stored in place of the data."""
        ...


Processor = DataProcessor | Callable[[Any, "ExecutionContext"], Any] | Callable[[Any], Any]


class ProcessingObserver(BaseObserver):
    """Runs four steps for each call that has ended: `should_process`, `extract`, `process`, `store`.

    Define `extract(context)` and `store(data)`; the other two have defaults. It hears COMPLETED and ERROR, so each call
    is processed once, unexpected errors included; `should_process` and `states` narrow that. An exception in one of the
    steps skips the rest of them for that call, and is logged and counted like any observer's.

    Steps may be coroutine functions, and so may the processor. If one is, the observer is async: it can be registered
    around coroutine functions and async generators alone. Which steps of a class are async is looked at when the class
    is made.

    Args:
        processor: What the step `process` does: an object with `process(data, context)`, or a function of
            `(data, context)` or of the data alone, such as `json.dumps`. None leaves the data as they are.
        priority: A finite number; 0 leaves what the class says.
        name: How it is shown; by default the name of the class.
        states: The state or states it is told; None leaves what the class says.
        critical: Whether its exceptions reach the caller; False leaves what the class says.

    Raises:
        ConfigurationError: A parameter is none of these; or at registration, `extract` or `store` is not defined.

    Example:
        >>> import json
        >>> from callpyback import CallPyBack
        >>> class Journal(ProcessingObserver):
        ...     def extract(self, context):
        ...         return {"function": context.function_signature.name, "success": context.is_successful}
        ...     def store(self, data):
        ...         print(data)
        >>> @CallPyBack(observers=[Journal(processor=json.dumps)])
        ... def work():
        ...     return 42
        >>> work()
        {"function": "work", "success": true}
        42
    """

    hears_calls_alone = True

    states = TERMINAL_STATES
    _processor: Processor | None = None
    _takes_context: bool = False
    _has_async_steps: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._has_async_steps = any(kind_of(getattr(cls, step)) is FunctionKind.COROUTINE for step in _STEPS)

    def __init__(
        self,
        processor: Processor | None = None,
        priority: float = 0,
        name: str | None = None,
        *,
        states: States | None = None,
        critical: bool = False,
    ) -> None:
        super().__init__(priority, name, states=states, critical=critical)
        if processor is not None:
            self.processor = processor

    @property
    def processor(self) -> Processor | None:
        """What the step `process` does. Whether it is async counts when the observer is registered."""
        return self._processor

    @processor.setter
    def processor(self, processor: Processor | None) -> None:
        self._takes_context = processor is not None and _takes_context(processor)
        self._processor = processor

    def should_process(self, context: ExecutionContext) -> Any:  # noqa: ARG002 - by default every call
        """Return whether the call is processed; by default every one is."""
        return True

    def extract(self, context: ExecutionContext) -> Any:
        """Return what matters of the call. Define it."""
        raise NotImplementedError

    def process(self, data: Any, context: ExecutionContext) -> Any:
        """Return what is to be stored: what the processor makes of the data; the data if there is none."""
        if self._processor is None:
            return data
        step = _step_of(self._processor)
        return step(data, context) if self._takes_context else step(data)

    def store(self, data: Any) -> Any:
        """Keep what was processed. Define it."""
        raise NotImplementedError

    def _run(self, context: ExecutionContext) -> None:
        if self.should_process(context):
            self.store(self.process(self.extract(context), context))

    async def _run_async(self, context: ExecutionContext) -> None:
        if await settled(self.should_process(context)):
            data = await settled(self.extract(context))
            await settled(self.store(await settled(self.process(data, context))))

    def _told_by(self) -> Callable[[ExecutionContext], Any]:
        """Run the steps for one call; to be awaited if one of them is."""
        is_async = self._has_async_steps
        if self.processor is not None and kind_of(_step_of(self.processor)) is FunctionKind.COROUTINE:
            is_async = True
        return self._run_async if is_async else self._run

    # Looked up on each observer, because registration asks whether it is to be awaited.
    update: Any = property(_told_by)

    def validate(self) -> None:
        """Refuse a class without the steps that have no default.

        Raises:
            ConfigurationError: See the class.
        """
        super().validate()
        cls = type(self)
        if not isinstance(inspect.getattr_static(cls, "update"), property):
            return  # the subclass does it all itself
        own = [name for name in dir(cls) if name not in dir(ProcessingObserver)]
        for step in _REQUIRED:
            if getattr(cls, step) is getattr(ProcessingObserver, step):
                given = "context" if step == "extract" else "data"
                message = f"{cls.__name__} lacks {step}(self, {given}){nearest(step, own)}"
                raise ConfigurationError(message)


def _step_of(processor: Any) -> Any:
    step = getattr(processor, "process", None)
    return step if callable(step) else processor


def _takes_context(processor: Any) -> bool:
    """Return whether the processor takes the context beside the data, or refuse it."""
    with looking_at("processor", processor):
        if isinstance(processor, type):
            refuse("processor", processor, f"an instance, got the class; did you mean {processor.__name__}()?")
        step = _step_of(processor)
        expected = "an object with process(data, context), or a function of (data, context) or of (data)"
        if not callable(step) or kind_of(step) in (FunctionKind.GENERATOR, FunctionKind.ASYNC_GENERATOR):
            refuse("processor", processor, expected)
        signature = signature_of(step)
        if signature is None:  # a builtin, which knows nothing of contexts
            return False
        names = list(signature.parameters)
        takes_one, takes_two = _can_take(signature, 1), _can_take(signature, _TWO)
        if not takes_one and not takes_two:
            refuse("processor", processor, expected)
        return takes_two and not (takes_one and {"context", "ctx"}.isdisjoint(names[1:2]))


def _can_take(signature: inspect.Signature, number: int) -> bool:
    try:
        signature.bind(*[None] * number)
    except TypeError:
        return False
    return True
