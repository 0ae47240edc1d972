"""Sends one event at a time, again where that may help, and keeps those that nobody took."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from callpyback.core.safe_repr import one_line, safe_text
from callpyback.core.time_sources import SYSTEM
from callpyback.sinks.http_client import Answer, Client, Deadline
from callpyback.sinks.webhook_request import Credentials, Event, body_of, headers_of
from callpyback.sinks.webhook_schedule import is_accepted, wait_before

if TYPE_CHECKING:
    from callpyback.sinks.pauses import Pause


class DeliveryFailed(Exception):  # noqa: N818 - what the log shows of it says what failed
    """An event was given up. The message holds no secret, and nothing the receiver chose but its status."""


class DeadLetter(NamedTuple):
    """An event that was given up."""

    event: Event
    reason: str
    given_up_at: float

    def shown(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "event_id": self.event.event_id,
            "attempts": self.event.attempts,
            "reason": self.reason,
            "given_up_at": self.given_up_at if math.isfinite(self.given_up_at) else None,
            "payload": self.event.payload,
        }


class Terms(NamedTuple):
    """How long and how often to try.

    Args:
        timeout: Seconds for one event, with all its attempts and the waits between.
        attempts: How many requests at most.
        now: The wall clock.
        clock: Monotonic seconds.
        pause: How to wait between attempts.
    """

    timeout: float
    attempts: int
    now: Callable[[], float]
    clock: Callable[[], float]
    pause: Pause


class Sender:
    """What the worker hands events to. Used by one thread.

    Args:
        client: Posts to the receiver.
        shown_url: The receiver, without what is secret in its URL.
        credentials: What it knows the sender by.
        terms: How long and how often to try.
        dead_letters: How many events that were given up are kept: the newest.
    """

    priority = 0

    def __init__(
        self, client: Client, shown_url: str, credentials: Credentials, terms: Terms, dead_letters: int
    ) -> None:
        self.dead_letters: deque[DeadLetter] = deque(maxlen=dead_letters)
        self.sent = self.requests = self.given_up = 0
        self._client = client
        self._shown_url = shown_url
        self._credentials = credentials
        self._terms = terms

    def update(self, event: Event) -> None:
        """Have the receiver take an event.

        Raises:
            DeliveryFailed: It did not; the event is among the dead letters.
        """
        begun = event.attempts
        try:
            problem = self._problem(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, the event must not be lost
            problem = one_line(safe_text(error))
        if problem is None:
            self.sent += 1
            return
        self.given_up += 1
        attempts = event.attempts - begun
        reason = f"{problem}, after {attempts} attempt{'' if attempts == 1 else 's'}"
        self.dead_letters.append(DeadLetter(event, reason, self._terms.now()))
        raise DeliveryFailed(f"{self._shown_url}: {reason}")

    def _problem(self, event: Event) -> str | None:
        """Try to have the event taken; return why it was not."""
        terms = self._terms
        deadline = Deadline(terms.clock, terms.timeout)
        last = event.attempts + terms.attempts
        while True:
            answer = self._post(event, deadline)
            if is_accepted(answer):
                return None
            problem = answer.problem or f"it answered {answer.status}"
            if event.attempts >= last:
                return problem
            wait = wait_before(event.attempts - last + terms.attempts + 1, answer, self._wall_clock())
            if wait is None:
                return problem
            if wait >= deadline.remaining():
                return f"{problem}, and there is no time to wait {wait:.1f} s"
            if not terms.pause.wait(wait):
                return f"{problem}, and the observer was shut down"

    def _post(self, event: Event, deadline: Deadline) -> Answer:
        event.attempts += 1
        self.requests += 1
        body = body_of(event)
        headers = headers_of(event, body, int(self._wall_clock()), self._credentials)
        # Half of the time at most: a receiver that hangs once is asked again.
        return self._client.post(headers, body, deadline.sooner(self._terms.timeout / 2))

    def _wall_clock(self) -> float:
        now = self._terms.now()
        return now if math.isfinite(now) else SYSTEM.now()

    def stop(self) -> None:
        """Give up a wait under way, and wait no more."""
        self._terms.pause.end()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get_metrics(self) -> dict[str, Any]:
        """Return how many events were sent and given up, in how many requests, and how many dead letters are kept."""
        return {
            "sent": self.sent,
            "given_up": self.given_up,
            "requests": self.requests,
            "dead_letters": len(self.dead_letters),
        }
