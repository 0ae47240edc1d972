"""Web servers on this machine for the tests of webhooks: well-behaved, scripted, and hostile ones."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
from dataclasses import dataclass

import pytest

from callpyback import CallPyBack
from callpyback.sinks import WebhookObserver

LIMIT = 20
"""Seconds after which something that waits has failed."""


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict
    body: bytes

    @property
    def payload(self):
        return json.loads(self.body)


class Receiver:
    """Answers with each of the given answers in turn, then with 204 for ever; keeps what it got.

    An answer is a status, a status with headers, or a function of the handler.
    """

    def __init__(self, *answers, ssl_context=None):
        self.answers = list(answers)
        self.requests = []
        self.connections = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                receiver.connections += 1
                super().setup()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, headers, body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                if callable(answer):
                    answer(self)
                    return
                status, more = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in {"content-length": "0", **more}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments): ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address): ...  # the client hung up, or trusts nobody here

        self.server = Server(("127.0.0.1", 0), Handler)
        if ssl_context is not None:
            self.server.socket = ssl_context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join(LIMIT)
        self.server.server_close()


class Hostile:
    """Does with every connection what a function of its socket does, in a thread each."""

    def __init__(self, treat):
        self.connections = 0
        self._treat = treat
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while not self.over.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._treated, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _treated(self, connection):
        with contextlib.suppress(OSError):
            self._treat(connection, self.over)
        connection.close()

    def close(self):
        self.over.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)


@pytest.fixture
def receiver():
    """Makes receivers, and closes them in the end."""
    made = []

    def make(*answers, **options):
        made.append(Receiver(*answers, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def hostile():
    """Makes hostile servers, and closes them in the end."""
    made = []

    def make(treat):
        made.append(Hostile(treat))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def webhook():
    """Makes observers that may reach this machine, and shuts them down in the end."""
    made = []

    def make(url, *arguments, **options):
        url = getattr(url, "url", url)
        made.append(WebhookObserver(url, *arguments, **{"allow_http": True, "allow_private": True, **options}))
        return made[-1]

    yield make
    for observer in made:
        observer.shutdown(0.0 if observer.ledger.pending else LIMIT)


def fail(observer, *arguments, times=1, **keywords):
    """Have a function that the observer observes raise ValueError("no")."""

    @CallPyBack([observer], default_return=None)
    def failing(*arguments, **keywords):
        raise ValueError("no")

    for _ in range(times):
        failing(*arguments, **keywords)


def free_port():
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


KEY_AND_CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5pHmymoryKJXFYff
D1W8G20NYRCRCmkVtQDXJgRq9Q2hRANCAATIkaYNIoJARP87YTAS0byhZ9cLvK2L
jcha4rG+9Ba8rJ5tg0u0kf8LSjpm8ok/dRxaIZOZKGUiZ48IIlFx2zeU
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1yZWNlaXZl
ci50ZXN0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1yZWNlaXZlci50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyJGm
DSKCQET/O2EwEtG8oWfXC7yti43IWuKxvvQWvKyebYNLtJH/C0o6ZvKJP3UcWiGT
mShlImePCCJRcds3lKNcMFowGAYDVR0RBBEwD4INcmVjZWl2ZXIudGVzdDAPBgNV
HRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQU9Bw3+UpQwjL9
xbXUMUlAs39AE/owCgYIKoZIzj0EAwIDSAAwRQIhAPyygMxs3SZt9nBMSGO2sKIe
WzIp70t2YAFcjxo4XjWIAiAujRGuMxmlTXeAqILkycSXHI3JA3wzT6VDUCoZTSZk
NQ==
-----END CERTIFICATE-----
"""
"""Of `receiver.test`, signed by itself. They protect nothing."""


def tls(tmp_path):
    """Return a context for a server that is `receiver.test`, and one for clients that trust it."""
    path = tmp_path / "receiver.pem"
    path.write_text(KEY_AND_CERTIFICATE)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=path)
