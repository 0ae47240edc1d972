"""SecurityAuditObserver: an event for each call of a sensitive function, an alert for each suspicious error."""

import logging
import sys

from callpyback import CallPyBack, MockTimeSource
from callpyback.observers.security_audit import SecurityAuditObserver

logger = logging.getLogger("security_audit")
logger.addHandler(logging.StreamHandler(sys.stdout))
logger.setLevel(logging.INFO)

audit = SecurityAuditObserver(sensitive_functions={"login", "*.admin_*"}, time_source=MockTimeSource(1_735_689_600.0))
watch = CallPyBack(observers=[audit])


@watch
def login(username: str, password: str, source_ip: str) -> str:  # noqa: ARG001 - the audit reads it
    """Let somebody in who knows the password."""
    if password != "tulip":  # noqa: S105 - an example
        raise PermissionError(f"authentication failed for {username} with {password}")
    return "welcome"


@watch
def find_author(name: str) -> str:
    """Find nobody: that is an error, and none of security."""
    raise LookupError(f"no author {name}")


login("ann", "tulip", "192.0.2.1")
for call in (lambda: login("bob", "hunter2", "192.0.2.7"), lambda: find_author("carol")):
    try:
        call()
    except (PermissionError, LookupError) as error:
        print(f"the caller got {type(error).__name__}")

print(f"{len(audit.security_events)} events, {len(audit.alerts)} alert")
