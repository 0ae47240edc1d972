"""LoggingObserver: one event for each call that ends, failures louder than successes; arguments only on request."""

import logging
import sys

from callpyback import CallPyBack, LoggingObserver

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", level=logging.INFO)


@CallPyBack(observers=[LoggingObserver(logging.getLogger("bank"))])
def transfer(amount: int) -> str:
    """Move money, within limits."""
    if amount > 100:
        raise PermissionError("over the limit")
    return "done"


@CallPyBack(observers=[LoggingObserver(logging.getLogger("bank"), arguments=True)], default_return="unknown")
def owner(account: str) -> str:
    """Look up a name; "unknown" is what the caller gets in place of an error."""
    return {"a1": "Ann"}[account]


transfer(50)
try:
    transfer(500)
except PermissionError:
    pass
owner("zz")
