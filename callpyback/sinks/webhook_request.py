"""What is sent for a call: the payload, its signature, and the headers."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callpyback.core.functions import full_name
from callpyback.core.masking import MASKING, Masking
from callpyback.core.safe_repr import one_line

if TYPE_CHECKING:
    from callpyback.core.context import ExecutionContext

MOST_SENT: Final = 64 * 1024
"""Bytes of a body at most."""

_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what a secret begins with, no secret
_LEAST_KEY: Final = 24
_USER_AGENT: Final = "callpyback-webhook"


class Event:
    """One event on its way: what is sent, and how often that was tried.

    Attributes:
        event_id: The same for every attempt, so that a receiver can tell a repetition.
        payload: Plain data, for JSON.
        attempts: How many requests were made.
    """

    __slots__ = ("attempts", "event_id", "payload")

    def __init__(self, payload: dict[str, Any]) -> None:
        self.event_id = uuid.uuid4().hex
        self.payload = payload
        self.attempts = 0


def payload_of(context: ExecutionContext, masking: Masking = MASKING) -> dict[str, Any]:
    """Return what is said of a call, in plain, bounded, masked data."""
    signature, result, outcome = context.function_signature, context.result, context.outcome
    error = None if result is None else result.exception
    elapsed = None if result is None else result.execution_time
    return {
        "alert_type": _alert_type(context),
        "function_name": one_line(signature.name),
        "error_message": None if error is None else masking.exception(error, context.arguments),
        "timestamp": _known(context.timestamp),
        "arguments": masking.plain(context.arguments),
        "qualified_name": full_name(signature),
        "execution_time": _known(elapsed),
        "outcome": None if outcome is None else outcome.value,
        "call_id": context.call_id,
    }


def _alert_type(context: ExecutionContext) -> str:
    outcome = context.outcome
    if context.is_failed and (outcome is None or outcome.value in ("failure", "handled")):
        return "function_failure"
    if outcome is not None:
        return f"function_{outcome.value}"
    return "function_success" if context.is_successful else f"function_{context.state.value}"


def _known(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) else None


def body_of(event: Event) -> bytes:
    """Return the JSON to send: at most 64 KB, `truncated` if something had to go."""
    marks = {"event_id": event.event_id, "attempt": event.attempts, "truncated": False}
    body = _encoded({**event.payload, **marks})
    if len(body) > MOST_SENT:
        body = _encoded({**_shortened(event.payload), **marks, "truncated": True})
    return body


def _shortened(payload: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is longest until the rest is short enough."""
    by_length = sorted(payload, key=lambda key: len(_encoded(payload[key])))
    kept: dict[str, Any] = {}
    room = MOST_SENT - 1024  # for the marks
    for key in by_length:
        room -= len(_encoded({key: payload[key]}))
        if room < 0:
            break
        kept[key] = payload[key]
    return {key: value for key, value in payload.items() if key in kept}


def _encoded(plain: Any) -> bytes:
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")


def headers_of(event: Event, body: bytes, timestamp: int, credentials: Credentials) -> dict[str, str]:
    """Return the headers of one attempt.

    `webhook-id`, `webhook-timestamp` and `webhook-signature` are as in the specification Standard Webhooks 1.0.0
    (https://www.standardwebhooks.com): the signature is `v1,` and the Base64 form of the HMAC-SHA256, by the secret, of
    the id, the seconds since the epoch at this attempt, and the body, joined by full stops.
    """
    headers = {
        "content-type": "application/json",
        "accept": "*/*",
        "accept-encoding": "identity",
        "user-agent": _USER_AGENT,
        "idempotency-key": event.event_id,
        "webhook-id": event.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-attempt": str(event.attempts),
    }
    if credentials.key is not None:
        headers["webhook-signature"] = signature_of(credentials.key, event.event_id, timestamp, body)
    if credentials.api_key is not None:
        headers["authorization"] = f"Bearer {credentials.api_key}"
    return headers


def signature_of(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a request."""
    signed = hmac.digest(key, b".".join((event_id.encode(), str(timestamp).encode(), body)), "sha256")
    return f"v1,{base64.b64encode(signed).decode()}"


class Credentials(NamedTuple):
    """What only sender and receiver know; shown nowhere."""

    api_key: str | None
    key: bytes | None

    def __repr__(self) -> str:
        return "<Credentials>"


def key_of(secret: str | bytes) -> bytes:
    """Return the key for signatures: the bytes given, or those that a text of the form `whsec_<Base64>` stands for.

    Raises:
        ValueError: It is neither, or shorter than 24 bytes.
    """
    if isinstance(secret, str):
        if not secret.startswith(_SECRET_PREFIX):
            raise ValueError(f"a text that begins with {_SECRET_PREFIX}, or bytes")
        try:
            key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX) + "==")
        except (binascii.Error, ValueError):
            raise ValueError(f"Base64 after {_SECRET_PREFIX}") from None
    else:
        key = bytes(secret)
    if len(key) < _LEAST_KEY:
        raise ValueError(f"at least {_LEAST_KEY} random bytes, such as os.urandom(32)")
    return key
