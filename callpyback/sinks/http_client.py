"""Posts a body to a web server: the only module that imports httpx, and httpcore, the part of it that connects.

httpx's own client is left out for three reasons: it logs the whole URL, which may be a secret; its limits of time hold
for each read and write, so that a server that sends a byte a second is never too late; and it connects to whatever a
name means at that moment. Here, every read and write ends at one deadline, and a connection goes to an address that was
looked at before. Names in certificates, and the `Host` header, are those of the URL.
"""

from __future__ import annotations

import codecs
import ssl
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from callpyback.core.forks import reset_after_fork
from callpyback.errors import ConfigurationError
from callpyback.sinks.addresses import AddressRefusedError, Resolver, refuse_private

try:
    import httpcore
    import httpx
except ImportError as missing:
    message = (
        f"WebhookObserver needs httpx ({missing}): install it by `pip install 'callpyback[webhook]'`, or by "
        "`pip install httpx`"
    )
    raise ConfigurationError(message) from missing

# Every search for an address needs it. Loaded now, because a fork in the middle of its import would leave it broken.
codecs.lookup("idna")

MOST_READ: Final = 64 * 1024
"""Bytes of a response that are read at most."""

_PIECE: Final = 16 * 1024
_KEPT: Final = 2.0
"""Seconds a connection is kept for the next event: shorter than servers keep theirs."""

_LEFTOVERS: Final = 0.5
"""Seconds to read the body of an answer, which nobody looks at: only so that the connection can be used again."""


class Deadline:
    """A moment on a monotonic clock. A clock that fails (nan) leaves the whole time.

    Args:
        clock: Monotonic seconds.
        seconds: From now on.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, 0.0 if it has passed."""
        left = self._end - self._clock()
        return min(max(left, 0.0), self._seconds) if left == left else self._seconds  # noqa: PLR0124 - nan

    def sooner(self, seconds: float) -> Deadline:
        """Return a deadline in so many seconds, or this one's moment if that is sooner."""
        return Deadline(self._clock, min(seconds, self.remaining()))


class Answer(NamedTuple):
    """What became of one request."""

    status: int | None
    """The status of the response; None if there was none."""
    retry_after: str | None
    """What its header of that name said."""
    problem: str
    """Why there was no response, in a few words without any part of the URL; empty if there was one."""
    may_pass: bool
    """Whether there may be one another time."""


class Target(NamedTuple):
    """Where to post: the parts of a URL."""

    scheme: str
    host: str
    port: int | None
    path: bytes

    @property
    def shown(self) -> str:
        """The URL without what may be secret in it: the path and the query."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}"


def parsed(url: str) -> tuple[Target, bool]:
    """Return the parts of a URL, a name in its ASCII form, and whether there is a user or a password in it.

    Raises:
        ValueError: It is no URL; the message shows nothing of it.
    """
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        message = "it is no URL"
        raise ValueError(message) from None
    target = Target(found.scheme, found.raw_host.decode("ascii"), found.port, found.raw_path)
    return target, bool(found.userinfo) or "@" in found.netloc.decode("ascii", "replace")


class Client:
    """Posts to one server, by one connection that is kept for a few seconds.

    Used by one thread at a time. Proxies, `.netrc` and cookies play no part.

    Args:
        target: Where to post.
        ssl_context: For TLS; None for httpx's own, with the certificates of `certifi`, or those `SSL_CERT_FILE` names.
        allow_private: Whether addresses that are not public may be connected to.
    """

    def __init__(self, target: Target, ssl_context: ssl.SSLContext | None, *, allow_private: bool) -> None:
        self._target = target
        self._ssl_context = ssl_context
        self._backend = _Backend(allow_private=allow_private)
        self._pool: httpcore.ConnectionPool | None = None
        reset_after_fork(self)

    def post(self, headers: Mapping[str, str], body: bytes, deadline: Deadline) -> Answer:
        """Send a request, and read the status of the response. Redirects are not followed."""
        self._backend.deadline = deadline
        if self._pool is None:
            self._pool = self._new_pool()
        try:
            return self._posted(self._pool, headers, body, deadline)
        except AddressRefusedError as error:
            return Answer(None, None, str(error), may_pass=False)
        except httpcore.TimeoutException:
            return Answer(None, None, "it took too long", may_pass=True)
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            is_certificate = isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError)
            return Answer(None, None, str(error) or type(error).__name__, may_pass=not is_certificate)

    def _posted(
        self, pool: httpcore.ConnectionPool, headers: Mapping[str, str], body: bytes, deadline: Deadline
    ) -> Answer:
        scheme, host, port, path = self._target
        url = httpcore.URL(scheme=scheme.encode(), host=host.encode(), port=port, target=path)
        with pool.stream("POST", url, headers=list(headers.items()), content=body) as response:
            answer = Answer(response.status, _header(response.headers, b"retry-after"), "", may_pass=True)
            self._backend.deadline = deadline.sooner(_LEFTOVERS)
            try:
                _read(response.iter_stream())
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                pass  # the status has been said
        return answer

    def _new_pool(self) -> httpcore.ConnectionPool:
        is_secure = self._target.scheme == "https"
        return httpcore.ConnectionPool(
            ssl_context=(self._ssl_context or httpx.create_ssl_context()) if is_secure else None,
            max_connections=1,
            keepalive_expiry=_KEPT,
            network_backend=self._backend,
        )

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def reset_after_fork(self) -> None:
        """Leave the parent's connection to the parent."""
        self._backend.forget_connections()
        self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        if self._ssl_context is not None:
            message = "an observer with an ssl_context of its own can't be copied or pickled, because that can't"
            raise TypeError(message)
        return {"target": self._target, "allow_private": self._backend.allow_private}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["target"], None, allow_private=state["allow_private"])  # type: ignore[misc]


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    return next((value[:100].decode("latin-1") for key, value in headers if key.lower() == name), None)


def _read(parts: Iterable[bytes]) -> None:
    length = 0
    for part in parts:
        length += len(part)
        if length > MOST_READ:
            return


class _Backend(httpcore.NetworkBackend):
    """Connects to addresses that have been looked at."""

    deadline: Deadline

    def __init__(self, *, allow_private: bool) -> None:
        self.allow_private = allow_private
        self._resolver = Resolver()
        self._sockets: weakref.WeakSet[Any] = weakref.WeakSet()
        self._connect = httpcore.SyncBackend().connect_tcp

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline is meant
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._resolver.addresses_of(host, port, self.deadline.remaining())
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        if not self.allow_private:
            refuse_private(addresses)
        for number, address in enumerate(addresses):
            left = self.deadline.remaining()
            if left <= 0:
                break
            try:
                stream = self._connect(address, port, left / (len(addresses) - number), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number + 1 == len(addresses):
                    raise
            else:
                return _Stream(stream, self)
        raise httpcore.ConnectTimeout

    def remember(self, stream: httpcore.NetworkStream) -> None:
        self._sockets.add(stream.get_extra_info("socket"))

    def forget_connections(self) -> None:
        """Close this process's copies of the sockets, which says nothing to the server."""
        for connection in list(self._sockets):
            connection.close()
        self._sockets.clear()


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the request."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _Backend) -> None:
        self._stream = stream
        self._backend = backend
        backend.remember(stream)

    def _left(self, error: type[Exception]) -> float:
        left = self._backend.deadline.remaining()
        if left <= 0:
            raise error
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        for begin in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[begin : begin + _PIECE], self._left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left = self._left(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
