"""Errors about what is not allowed: the caller learns a number, the audit log the rest, and nobody a value."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at, refuse
from callpyback.core.functions import full_name
from callpyback.core.safe_repr import one_line, type_name
from callpyback.core.timestamps import utc_text
from callpyback.errors import AccessDenied
from callpyback.handlers.handler import Handler

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext
    from callpyback.handlers.matching import Classes

AUDIT_LOG: Final = "callpyback.security"
_MAX_NAMES: Final = 50


class SecurityErrorHandler(Handler):
    """Denies: writes one entry to the audit log, and raises `AccessDenied`, which tells the caller its number alone.

    An entry says the number of the incident, the function, the type of the error, the names of the parameters that
    were given, and when the call began. It holds no value and no text of the error. Its parts are also attributes of
    the log record: `incident_id`, `function_name`, `error_type`, `argument_names`, `began_at`.

    The denial does not depend on the log: if writing the entry fails, that is reported on the logger `callpyback`,
    and the caller is denied all the same. An `AccessDenied` from further inside goes on with the number it has.

    Args:
        on: The classes that mean something forbidden.
        logger: Where entries are written, as warnings; by default the logger `callpyback.security`.
        name: What `context.decided_by` shows.

    Example:
        >>> from callpyback import CallPyBack
        >>> @CallPyBack(error_handler=SecurityErrorHandler())
        ... def read(path, token):
        ...     raise PermissionError(f"{token} may not read {path}")
        >>> try:
        ...     read("/etc/shadow", token="s3cret")
        ... except PermissionError as denied:
        ...     print(type(denied).__name__, len(denied.incident_id), "s3cret" in str(denied))
        AccessDenied 16 False
    """

    def __init__(
        self,
        on: Classes = PermissionError,
        *,
        logger: logging.Logger | logging.LoggerAdapter[Any] | None = None,
        name: str = "security",
    ) -> None:
        super().__init__(on, raises=self._denial, name=name)
        with looking_at("logger", logger):
            if logger is not None and not isinstance(logger, logging.Logger | logging.LoggerAdapter):
                refuse("logger", logger, 'a logger of the standard library, such as logging.getLogger("audit")')
            self._logger = logging.getLogger(AUDIT_LOG) if logger is None else logger

    def _denial(self, error: Exception, context: ExecutionContext) -> Exception:
        if isinstance(error, AccessDenied):
            return error
        incident_id = os.urandom(8).hex()
        try:
            self._write(incident_id, error, context)
        except Exception as fault:  # noqa: BLE001 - the original error, and what it tells, must not get out instead
            self.faults.report(fault, error)
        denial = AccessDenied(incident_id)
        denial.__suppress_context__ = True  # raised `from None`
        return denial

    def _write(self, incident_id: str, error: Exception, context: ExecutionContext) -> None:
        entry = {
            "incident_id": incident_id,
            "function_name": full_name(context.function_signature),
            "error_type": one_line(type_name(error)),
            "argument_names": _names_of(context),
            "began_at": utc_text(context.timestamp),
        }
        shown = {**entry, "argument_names": ", ".join(entry["argument_names"]) or "none"}
        self._logger.warning(
            "access denied: incident %(incident_id)s in %(function_name)s, error %(error_type)s, "
            "arguments %(argument_names)s, call began at %(began_at)s",
            shown,
            extra=entry,
        )


def _names_of(context: ExecutionContext) -> list[str]:
    """Return the parameters that have a value; of surplus keywords only the `**` parameter: a caller chooses them."""
    parameters = context.function_signature.parameters
    named = [name for name in context.arguments if name in parameters]
    if len(named) < len(context.arguments):
        named += [name for name, known in parameters.items() if known.kind is known.VAR_KEYWORD and name not in named]
    return named[:_MAX_NAMES]
