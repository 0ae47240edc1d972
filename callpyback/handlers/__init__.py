"""What deals with an error of the body: handlers, the chains they form, and retries."""

from __future__ import annotations

from callpyback.handlers.builder import ErrorHandlerBuilder
from callpyback.handlers.chain import BaseHandler, ErrorHandlerChain
from callpyback.handlers.chains import (
    create_robust_error_chain,
    create_simple_error_chain,
    create_standard_error_chain,
    create_user_friendly_error_chain,
    create_validation_error_chain,
)
from callpyback.handlers.handler import Handler
from callpyback.handlers.retry import Retry
from callpyback.handlers.security import SecurityErrorHandler
from callpyback.handlers.usual import (
    BusinessLogicErrorHandler,
    ConditionalErrorHandler,
    DefaultErrorHandler,
    NetworkErrorHandler,
    ReraiseErrorHandler,
    TimeoutErrorHandler,
    ValidationErrorHandler,
    is_network_error,
)

__all__ = [
    "BaseHandler",
    "BusinessLogicErrorHandler",
    "ConditionalErrorHandler",
    "DefaultErrorHandler",
    "ErrorHandlerBuilder",
    "ErrorHandlerChain",
    "Handler",
    "NetworkErrorHandler",
    "ReraiseErrorHandler",
    "Retry",
    "SecurityErrorHandler",
    "TimeoutErrorHandler",
    "ValidationErrorHandler",
    "create_robust_error_chain",
    "create_simple_error_chain",
    "create_standard_error_chain",
    "create_user_friendly_error_chain",
    "create_validation_error_chain",
    "is_network_error",
]
