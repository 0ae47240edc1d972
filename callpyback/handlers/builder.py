"""`ErrorHandlerBuilder`: a chain, said step by step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from callpyback.errors import NO_VALUE
from callpyback.handlers.chain import ErrorHandlerChain
from callpyback.handlers.security import SecurityErrorHandler
from callpyback.handlers.usual import (
    BusinessLogicErrorHandler,
    ConditionalErrorHandler,
    DefaultErrorHandler,
    NetworkErrorHandler,
    TimeoutErrorHandler,
    ValidationErrorHandler,
)

if TYPE_CHECKING:
    from callpyback.handlers.matching import Classes, Predicate


class ErrorHandlerBuilder:
    """Builds a chain: what is added first is asked first, and each step returns the builder.

    A handler that would never be asked, because those before it decide about all of its errors, is refused when it is
    added.

    Example:
        >>> chain = (
        ...     ErrorHandlerBuilder()
        ...     .add_timeout_handler(default_return="later")
        ...     .add_validation_handler(reraise=True)
        ...     .add_default_handler("sorry")
        ...     .build()
        ... )
        >>> chain
        <ErrorHandlerChain of 'timeout', 'validation', 'default'>
        >>> chain.handle_error(OSError("disk full"), context=None)
        'sorry'
    """

    def __init__(self) -> None:
        self._chain = ErrorHandlerChain()

    def add_handler(self, handler: Any) -> Self:
        """Add any handler, a chain, a `Retry`, or an object with `handle_error(error, context)`.

        Raises:
            ConfigurationError: It is no handler, or would never be asked.
        """
        self._chain = ErrorHandlerChain((self._chain, handler))
        return self

    def add_timeout_handler(self, default_return: Any = NO_VALUE) -> Self:
        """Add a `TimeoutErrorHandler`."""
        return self.add_handler(TimeoutErrorHandler(default_return=default_return))

    def add_validation_handler(self, *, reraise: bool | None = None, default_return: Any = NO_VALUE) -> Self:
        """Add a `ValidationErrorHandler` for ValueError and TypeError."""
        return self.add_handler(ValidationErrorHandler(reraise=reraise, default_return=default_return))

    def add_flexible_validation_handler(
        self, on: Classes = (ValueError, TypeError), *, reraise: bool | None = None, default_return: Any = NO_VALUE
    ) -> Self:
        """Add a `ValidationErrorHandler` for classes of your own."""
        return self.add_handler(ValidationErrorHandler(on, reraise=reraise, default_return=default_return))

    def add_network_handler(
        self,
        retry_count: int = 2,
        *,
        default_return: Any = NO_VALUE,
        wait: Any = None,
        timeout: float | None = None,
    ) -> Self:
        """Add a `NetworkErrorHandler`."""
        return self.add_handler(
            NetworkErrorHandler(retry_count=retry_count, default_return=default_return, wait=wait, timeout=timeout)
        )

    def add_business_logic_handler(self, error_mapping: Mapping[type[Exception], Any]) -> Self:
        """Add a `BusinessLogicErrorHandler`."""
        return self.add_handler(BusinessLogicErrorHandler(error_mapping))

    def add_security_handler(
        self,
        on: Classes = PermissionError,
        *,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
    ) -> Self:
        """Add a `SecurityErrorHandler`."""
        return self.add_handler(SecurityErrorHandler(on, logger=logger))

    def add_conditional_handler(self, condition: Predicate, handler: Any) -> Self:
        """Add a `ConditionalErrorHandler`."""
        return self.add_handler(ConditionalErrorHandler(condition, handler))

    def add_default_handler(self, default_return: Any = None) -> Self:
        """Add a `DefaultErrorHandler`; nobody can come after it."""
        return self.add_handler(DefaultErrorHandler(default_return))

    def build(self) -> ErrorHandlerChain:
        """Return the chain as it is now; what is added later is not in it."""
        return self._chain

    def __repr__(self) -> str:
        return f"<ErrorHandlerBuilder with {self._chain!r}>"
