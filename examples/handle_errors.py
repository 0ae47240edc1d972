"""A chain of error handlers: each sort of error is dealt with in its own way, the first handler that decides wins."""

import logging

from callpyback import CallPyBack, ErrorHandlerBuilder, on_completion
from callpyback.core.context import ExecutionContext


class AuditLog(logging.Handler):
    """Where security incidents go: neither values nor texts are in them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print what was noted."""
        print(f"  [audit: {record.error_type} in {record.function_name}, given {record.argument_names}]")


audit = logging.getLogger("audit")
audit.addHandler(AuditLog())
audit.propagate = False

chain = (
    ErrorHandlerBuilder()
    .add_security_handler(logger=audit)
    .add_network_handler(retry_count=1, wait=0, default_return="offline, please try later")
    .add_business_logic_handler({KeyError: lambda error: f"there is no {error.args[0]}", LookupError: "nothing there"})
    .add_validation_handler(reraise=True)
    .add_default_handler("something went wrong")
    .build()
)


def show(context: ExecutionContext) -> None:
    """Print how the call ended, and who decided it."""
    print(f"  [{context.outcome.name} by {context.decided_by}, attempt {context.attempt}]")


@CallPyBack(observers=[on_completion(show)], error_handler=chain)
def shop(error: Exception) -> str:
    """Fail."""
    raise error


for problem in (
    KeyError("tea"),
    IndexError(7),
    ConnectionResetError("lost"),
    ZeroDivisionError(),
    ValueError("no price"),
    PermissionError("the password tulip is wrong"),
):
    print(repr(problem))
    try:
        print(" ", shop(problem))
    except (ValueError, PermissionError) as raised:
        print(f"  the caller gets {type(raised).__name__}; the password is told: {'tulip' in str(raised)}")
