"""Ready chains, for the commonest ways of dealing with errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from callpyback.handlers.builder import ErrorHandlerBuilder
from callpyback.handlers.usual import ReraiseErrorHandler

if TYPE_CHECKING:
    from callpyback.handlers.chain import ErrorHandlerChain


def create_simple_error_chain(default_return: Any = None) -> ErrorHandlerChain:
    """Whatever goes wrong, the caller gets the default: for what may fail unnoticed, such as a decoration of a page.

    Args:
        default_return: What the caller gets.

    Example:
        >>> create_simple_error_chain("?").handle_error(KeyError("weather"), context=None)
        '?'
    """
    return ErrorHandlerBuilder().add_default_handler(default_return).build()


def create_standard_error_chain(
    default_return: Any = None, *, retry_count: int = 2, wait: Any = None
) -> ErrorHandlerChain:
    """Trouble outside the program gives the default, mistakes in it go on: for calls of other services.

    A timeout gives the default at once, since trying again what took too long takes longer still. Other errors of the
    network are retried first. Everything else goes on to the caller.

    Args:
        default_return: What the caller gets after a timeout, or when the retries did not help.
        retry_count: How often the body is run again after an error of the network.
        wait: Between the attempts; as of `Retry`.

    Example:
        >>> create_standard_error_chain("offline").handle_error(TimeoutError(), context=None)
        'offline'
    """
    return (
        ErrorHandlerBuilder()
        .add_timeout_handler(default_return=default_return)
        .add_network_handler(retry_count=retry_count, default_return=default_return, wait=wait)
        .add_handler(ReraiseErrorHandler())
        .build()
    )


def create_user_friendly_error_chain(
    default_return: Any = None, *, error_mapping: Mapping[type[Exception], Any] | None = None
) -> ErrorHandlerChain:
    """No error of the program is shown to a person: for what stands between the program and its users.

    What is forbidden is denied with the number of the incident; errors of the mapping give their values; everything
    else gives the default, a sentence for example.

    Args:
        default_return: What the caller gets for errors that are not in the mapping.
        error_mapping: From exception classes to values; see `BusinessLogicErrorHandler`.

    Example:
        >>> shown = create_user_friendly_error_chain("Please try later.", error_mapping={KeyError: "Not found."})
        >>> shown.handle_error(KeyError("page 7"), context=None), shown.handle_error(ZeroDivisionError(), context=None)
        ('Not found.', 'Please try later.')
    """
    builder = ErrorHandlerBuilder().add_security_handler()
    if error_mapping is not None:
        builder.add_business_logic_handler(error_mapping)
    return builder.add_default_handler(default_return).build()


def create_validation_error_chain(default_return: Any = None) -> ErrorHandlerChain:
    """Wrong input gives the default, everything else goes on: for functions that read what people wrote.

    Args:
        default_return: What the caller gets after a ValueError or TypeError.

    Example:
        >>> create_validation_error_chain(0).handle_error(ValueError("not a number"), context=None)
        0
    """
    return (
        ErrorHandlerBuilder()
        .add_validation_handler(default_return=default_return)
        .add_handler(ReraiseErrorHandler())
        .build()
    )


def create_robust_error_chain(
    default_return: Any = None, *, retry_count: int = 2, wait: Any = None
) -> ErrorHandlerChain:
    """The program goes on, whatever happens: for work that is done again later anyway.

    What is forbidden is denied with the number of the incident, which nobody should do again. Errors of the network,
    timeouts among them, are retried. Then, and for everything else, the caller gets the default.

    Args:
        default_return: What the caller gets.
        retry_count: How often the body is run again after an error of the network.
        wait: Between the attempts; as of `Retry`.

    Example:
        >>> create_robust_error_chain("skipped").handle_error(ValueError("odd"), context=None)
        'skipped'
    """
    return (
        ErrorHandlerBuilder()
        .add_security_handler()
        .add_network_handler(retry_count=retry_count, default_return=default_return, wait=wait)
        .add_default_handler(default_return)
        .build()
    )
