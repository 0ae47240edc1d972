"""`WebhookObserver`: tells a web server about calls, of failures unless asked for more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from callpyback.core.configuration import checked_clocks, checked_count, checked_seconds, checked_switch
from callpyback.core.masking import Masking
from callpyback.core.state_machine import ExecutionState
from callpyback.delivery.background import BackgroundObserver
from callpyback.sinks.pauses import Pause
from callpyback.sinks.webhook_checks import checked_api_key, checked_secret, checked_ssl_context, checked_target
from callpyback.sinks.webhook_request import Credentials, Event, payload_of

if TYPE_CHECKING:
    import ssl

    from callpyback.core.context import ExecutionContext
    from callpyback.delivery.queue import Overflow
    from callpyback.observers.base import States
    from callpyback.protocols import TimeSource
    from callpyback.sinks.webhook_sender import Sender


class WebhookObserver(BackgroundObserver):
    """Posts an event to a web server for each failed call, from a thread of its own. Needs `callpyback[webhook]`.

    A call makes the event, of plain values that hold nothing of the call, and puts it into a queue: some microseconds,
    whatever the server is doing. It is JSON with `alert_type`, `function_name`, `error_message`, `timestamp` (seconds
    since the epoch), `arguments`, `qualified_name`, `execution_time`, `outcome`, `call_id`, `event_id`, `attempt` and
    `truncated`; at most 64 KB. Arguments whose names mean a secret are masked at any depth, and what looks like one in
    a message too. To send something else, override `make_payload(context)`.

    An event is sent until the server answers 2xx: at least once, and more than once if an answer got lost. The header
    `webhook-id` is the same every time, so that the receiver can leave out what it has. `webhook-timestamp` and, with
    a `secret`, `webhook-signature` show that a request is from here and new, as specified by Standard Webhooks
    (https://www.standardwebhooks.com), for which receivers have libraries in every language.

    Only a connection that fails, a server that hangs, and the answers 408, 425, 429 and 5xx lead to another attempt,
    after a random wait that doubles (full jitter), or as long as `Retry-After` says. Redirects are not followed. All
    attempts together end at `timeout`; one takes at most half of it. Then, and after every other answer, the event is a
    dead letter: kept, to be looked at and sent again. That counts as failed in `ledger`, and is logged at most once a
    minute.

    Only `https` and addresses of the public internet are connected to, whatever the name resolves to at that moment:
    a URL that somebody else chose can't reach into the network of this program. The certificate is verified. No
    answer is looked at beyond its status, read beyond 64 KB, or decompressed. `api_key`, `secret`, and path and query
    of the URL are never shown, in no log and no error.

    Everything else is as for `BackgroundObserver`. In the worst case `max_queue` events and `dead_letters` are held, of
    at most about 60 KB each, and usually 1 KB.

    Args:
        url: Where to post.
        api_key: Sent as `Authorization: Bearer ...`.
        secret: The key of the signatures: a text of the form `whsec_<Base64>`, or at least 24 random bytes.
        states: Which states make an event; by default POST_FAILURE.
        timeout: Seconds for one event, with all its attempts and the waits between.
        attempts: How many requests an event takes at most.
        allow_http: Whether `http` will do. What is sent can then be read and changed on the way.
        allow_private: Whether addresses that are not public may be reached, such as a server of your own.
        masked_keys: Names of further secrets, beside those of `Masking`.
        ssl_context: For a certificate authority of your own, or a client's certificate. It must verify certificates. An
            observer that has one can't be pickled.
        dead_letters: How many dead letters are kept: the newest.
        max_queue: The greatest number of events in the queue.
        overflow: What happens at a full queue, as for `BackgroundObserver`.
        block_timeout: Seconds a call waits at most, if it waits.
        exit_timeout: Seconds that the end of the program, and `close()`, wait for the delivery.
        time_source: Whose clocks decide about `timeout` and the signature's time, and whose `sleep`, if it has one,
            passes the time between attempts.
        priority: Higher is told earlier.
        name: How it is shown.

    Raises:
        ConfigurationError: A parameter is none of these, or httpx is not installed.

    Example:
        >>> import http.server, threading
        >>> from callpyback import CallPyBack
        >>> received = []
        >>> class Receiver(http.server.BaseHTTPRequestHandler):
        ...     def do_POST(self):
        ...         received.append(self.rfile.read(int(self.headers["content-length"])).decode())
        ...         self.send_response(204)
        ...         self.end_headers()
        ...     def log_message(self, *arguments): ...
        >>> server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
        >>> threading.Thread(target=server.serve_forever, daemon=True).start()
        >>> url = f"http://127.0.0.1:{server.server_port}/alerts"
        >>> alerts = WebhookObserver(url, allow_http=True, allow_private=True)
        >>> @CallPyBack(observers=[alerts], default_return=None)
        ... def divide(a, b):
        ...     return a / b
        >>> divide(1, 0)
        >>> alerts.flush(timeout=10)
        True
        >>> print(received[0][:98])
        {"alert_type":"function_failure","function_name":"divide","error_message":"ZeroDivisionError: divi
        >>> alerts.close()
        >>> server.shutdown()
        >>> server.server_close()
    """

    hears_calls_alone = True

    observer: Sender

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        secret: str | bytes | None = None,
        states: States | None = None,
        timeout: float = 10.0,
        attempts: int = 5,
        allow_http: bool = False,
        allow_private: bool = False,
        masked_keys: Iterable[str] = (),
        ssl_context: ssl.SSLContext | None = None,
        dead_letters: int = 1000,
        max_queue: int = 1000,
        overflow: Overflow = "drop_oldest",
        block_timeout: float = 1.0,
        exit_timeout: float = 5.0,
        time_source: TimeSource | None = None,
        priority: float = 0,
        name: str | None = None,
    ) -> None:
        # Both bring httpx, which only those who have webhooks need.
        from callpyback.sinks.http_client import Client  # noqa: PLC0415
        from callpyback.sinks.webhook_sender import Sender, Terms  # noqa: PLC0415

        self.timeout = checked_seconds("timeout", timeout)
        self.attempts = checked_count("attempts", attempts)
        self.allow_http = checked_switch("allow_http", allow_http)
        self.allow_private = checked_switch("allow_private", allow_private)
        target = checked_target(url, allow_http=self.allow_http, allow_private=self.allow_private)
        self.shown_url = target.shown
        self._masking = Masking(masked_keys)
        credentials = Credentials(checked_api_key(api_key), checked_secret(secret))
        client = Client(target, checked_ssl_context(ssl_context), allow_private=self.allow_private)
        now, clock = checked_clocks(time_source)
        terms = Terms(self.timeout, self.attempts, now, clock, Pause(time_source))
        super().__init__(
            Sender(client, target.shown, credentials, terms, checked_count("dead_letters", dead_letters)),
            max_queue=max_queue,
            overflow=overflow,
            block_timeout=block_timeout,
            exit_timeout=exit_timeout,
            states=ExecutionState.POST_FAILURE if states is None else states,
            priority=priority,
            name=type(self).__name__ if name is None else name,
        )

    def make_payload(self, context: ExecutionContext) -> dict[str, Any]:
        """Return what is sent of a call, as plain data; `event_id`, `attempt` and `truncated` are added.

        Called in the thread of the call. Override it to send something else.
        """
        return payload_of(context, self._masking)

    def update(self, context: ExecutionContext) -> None:
        """Put the event of a call into the queue."""
        self._offer(Event(self.make_payload(context)))

    def get_dead_letters(self) -> list[dict[str, Any]]:
        """Return the events that were given up and are kept, the newest last.

        Each is a dictionary with `event_id`, `attempts`, `reason`, `given_up_at` (seconds since the epoch) and
        `payload`.
        """
        return [letter.shown() for letter in tuple(self.observer.dead_letters)]

    def resend_dead_letters(self) -> int:
        """Put the dead letters back into the queue, the oldest first, as many as there is room for.

        They keep their `event_id`, and their attempts are counted on; in the ledger they are offered anew. After a
        shutdown they stay where they are.

        Returns:
            How many were put there.
        """
        queue, letters = self._pipeline.queue, self.observer.dead_letters
        number = 0
        while not queue.is_closed and len(queue) < self.max_queue:
            try:
                letter = letters.popleft()
            except IndexError:
                break
            self._offer(letter.event)
            number += 1
            if number == letters.maxlen:
                break  # those that come back meanwhile are for another time
        return number

    def reset(self) -> None:
        """Forget the dead letters."""
        self.observer.dead_letters.clear()

    def shutdown(self, timeout: float | None = None) -> bool:
        """Send what was offered, close the connection, and end the thread; as for `BackgroundObserver`.

        If an event is waiting for its next attempt when the time is over, it is given up.
        """
        is_done = super().shutdown(timeout)
        if not is_done:
            self.observer.stop()
        return is_done

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} url={self.shown_url!r} priority={self.priority!r}>"
