"""An event on its way: attempts and waits, whatever the server does; signatures, dead letters, shutting down."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import gzip
import hashlib
import hmac
import os
import socket
import threading
import time

import pytest

from callpyback import MockTimeSource
from callpyback.sinks import http_client
from delivering import counted
from receiving import LIMIT, fail, free_port, hostile, receiver, tls, webhook

__all__ = ["hostile", "receiver", "webhook"]  # fixtures


class Clock(MockTimeSource):
    """A clock that waits move, and that remembers how long they were."""

    def __init__(self, initial_time=1_700_000_000.0):
        super().__init__(initial_time)
        self.waits = []

    def sleep(self, seconds):
        self.waits.append(seconds)
        super().sleep(seconds)


def read_request(connection):
    """Read one request to its end."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65536)
    head, _, body = text.partition(b"\r\n\r\n")
    [length] = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < length:
        body += connection.recv(65536)


def the_letter(observer):
    [letter] = observer.get_dead_letters()
    return letter


def test_an_event_is_sent_again_until_it_is_taken(receiver, webhook):
    server, clock = receiver(500, 503, 408, 425, 204), Clock()
    observer = webhook(server, time_source=clock)
    fail(observer)
    assert observer.flush(LIMIT)
    assert [request.payload["attempt"] for request in server.requests] == [1, 2, 3, 4, 5]
    assert [request.headers["webhook-attempt"] for request in server.requests] == ["1", "2", "3", "4", "5"]
    assert len({request.payload["event_id"] for request in server.requests}) == 1
    assert len(clock.waits) == 4
    assert observer.ledger == counted(offered=1, delivered=1)
    assert observer.get_dead_letters() == []


def test_no_call_waits_really_when_the_time_source_can_sleep(receiver, webhook):
    began = time.monotonic()
    observer = webhook(receiver(*[500] * 50), time_source=Clock(), attempts=50, timeout=1000)
    fail(observer)
    assert observer.flush(LIMIT)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 301, 302, 307, 308, 304])
def test_what_will_not_pass_is_not_sent_again(receiver, webhook, status):
    elsewhere = receiver()
    server = receiver((status, {"location": elsewhere.url}))
    observer = webhook(server, "key")
    fail(observer)
    assert observer.flush(LIMIT)
    assert (len(server.requests), elsewhere.requests) == (1, [])
    assert the_letter(observer)["reason"] == f"it answered {status}, after 1 attempt"
    assert observer.ledger == counted(offered=1, failed=1)


def test_after_the_last_attempt_it_is_a_dead_letter(receiver, webhook):
    server, clock = receiver(*[500] * 9), Clock()
    observer = webhook(server, time_source=clock, attempts=3)
    fail(observer)
    observer.flush(LIMIT)
    assert len(server.requests) == 3
    letter = the_letter(observer)
    assert letter["reason"] == "it answered 500, after 3 attempts"
    assert letter["given_up_at"] == clock.now()
    assert (letter["attempts"], letter["event_id"]) == (3, server.requests[0].payload["event_id"])
    assert letter["payload"]["error_message"] == "ValueError: no"


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_the_receiver_says_when_to_come_again(receiver, webhook, as_date):
    clock = Clock()
    retry_after = email.utils.formatdate(clock.now() + 7, usegmt=True) if as_date else "7"
    server = receiver((429, {"retry-after": retry_after}))
    observer = webhook(server, time_source=clock)
    fail(observer)
    assert observer.flush(LIMIT)
    assert len(server.requests) == 2
    [wait] = clock.waits
    assert 7 <= wait <= 7.5


def test_a_receiver_that_wants_more_time_than_there_is_is_not_waited_for(receiver, webhook):
    server, clock = receiver((429, {"retry-after": "3600"})), Clock()
    observer = webhook(server, time_source=clock)
    fail(observer)
    assert observer.flush(LIMIT)
    assert clock.waits == []
    assert the_letter(observer)["reason"].startswith("it answered 429, and there is no time to wait 36")


def test_a_port_where_nobody_listens_is_tried_again(webhook):
    clock = Clock()
    observer = webhook(f"http://127.0.0.1:{free_port()}", time_source=clock, attempts=3)
    fail(observer)
    assert observer.flush(LIMIT)
    assert len(clock.waits) == 2
    assert "Connection refused, after 3 attempts" in the_letter(observer)["reason"]


def test_a_name_without_address_is_tried_again(webhook, monkeypatch):
    asked = []

    def unknown(host, *arguments, **options):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    observer = webhook("http://nowhere.example", time_source=Clock(), attempts=3)
    asked.clear()
    fail(observer)
    assert observer.flush(LIMIT)
    assert the_letter(observer)["reason"] == "no address: Name or service not known, after 3 attempts"


def drip(connection, over):
    """Answer a byte at a time, for ever."""
    for number in range(100_000):
        connection.sendall(b"HTTP/1.1 200 OK\r\nx: "[number : number + 1] or b"y")
        if over.wait(0.02):
            return


def inform(connection, over):
    """Say 103 for ever, which is no answer."""
    while not over.wait(0.001):
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10)


def nothing(connection, over):
    over.wait(LIMIT)


@pytest.mark.parametrize("treat", [drip, inform, nothing], ids=lambda treat: treat.__name__)
def test_all_attempts_together_end_at_the_deadline(hostile, webhook, treat):
    server = hostile(treat)
    observer = webhook(server, timeout=0.6)
    fail(observer)
    began = time.monotonic()
    assert observer.flush(LIMIT)
    assert time.monotonic() - began < 2
    letter = the_letter(observer)
    assert letter["reason"].startswith("it took too long")
    assert letter["attempts"] == server.connections <= 5


def test_a_receiver_that_hangs_once_is_asked_again(hostile, webhook):
    hangs = [True]

    def treat(connection, over):
        if hangs:
            hangs.pop()
            over.wait(LIMIT)
        read_request(connection)
        connection.sendall(b"HTTP/1.1 204 done\r\n\r\n")

    observer = webhook(hostile(treat), timeout=4)
    fail(observer)
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=1, delivered=1)


def test_the_body_of_an_answer_is_not_waited_for(hostile, webhook):
    def treat(connection, over):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not over.wait(0.02):
            connection.sendall(b"1\r\nx\r\n")

    observer = webhook(hostile(treat), timeout=LIMIT)
    fail(observer)
    began = time.monotonic()
    assert observer.flush(LIMIT)
    assert time.monotonic() - began < 5
    assert observer.ledger == counted(offered=1, delivered=1)


def test_a_huge_answer_is_read_for_64_kb_only(hostile, webhook):
    sent = []

    def treat(connection, over):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while len(sent) < 10_000 and not over.is_set():
                sent.append(connection.send(b"x" * 100_000))

    observer = webhook(hostile(treat))
    fail(observer, times=2)
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=2, delivered=2)
    assert len(sent) < 10_000  # the connection was closed, not read to its end


def test_a_compressed_answer_is_not_decompressed(receiver, webhook, monkeypatch):
    bomb = gzip.compress(bytes(30_000_000))
    monkeypatch.setattr("zlib.decompressobj", lambda *_: pytest.fail("decompressed"))

    def answer(handler):
        handler.send_response(200)
        handler.send_header("content-encoding", "gzip")
        handler.send_header("content-length", str(len(bomb)))
        handler.end_headers()
        handler.wfile.write(bomb)

    server = receiver(answer)
    observer = webhook(server)
    fail(observer, times=2)
    assert observer.flush(LIMIT)
    assert len(server.requests) == 2
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "text",
    [
        b"\r\n\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x00: \xff\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"\x16\x03\x01",
        b"",
    ],
    ids=range(11),
)
def test_an_answer_that_is_none_hurts_nobody(hostile, webhook, text):
    def treat(connection, over):
        read_request(connection)
        connection.sendall(text)

    observer = webhook(hostile(treat), time_source=Clock(), attempts=2)
    fail(observer)
    assert observer.flush(LIMIT)
    letter = the_letter(observer)
    assert len(letter["reason"]) < 300
    assert letter["reason"].isprintable()
    assert observer.ledger == counted(offered=1, failed=1)


def test_hostile_headers_of_an_answer_that_is_one_hurt_nobody(hostile, webhook):
    def treat(connection, over):
        read_request(connection)
        connection.sendall(
            b"HTTP/1.1 503 \xff\xfe\r\nretry-after: \xff\xfe\r\nset-cookie: a=b\r\nretry-after: 1\r\n"
            b"content-encoding: evil\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )

    observer = webhook(hostile(treat), time_source=Clock(), attempts=2)
    fail(observer)
    assert observer.flush(LIMIT)
    assert the_letter(observer)["reason"] == "it answered 503, after 2 attempts"


def test_a_connection_is_used_again(receiver, webhook):
    server = receiver()
    observer = webhook(server)
    fail(observer, times=20)
    assert observer.flush(LIMIT)
    assert (len(server.requests), server.connections) == (20, 1)


def test_cookies_are_not_sent_back(receiver, webhook):
    server = receiver((204, {"set-cookie": "session=1"}))
    observer = webhook(server)
    fail(observer, times=2)
    assert observer.flush(LIMIT)
    assert "cookie" not in server.requests[1].headers


def test_proxies_of_the_environment_play_no_part(receiver, webhook, monkeypatch):
    proxy, server = receiver(), receiver()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    observer = webhook(server, "key")
    fail(observer)
    assert observer.flush(LIMIT)
    assert (len(server.requests), proxy.requests) == (1, [])


def test_a_receiver_that_leaves_out_repetitions_sees_each_event_once(hostile, webhook):
    """Every other answer gets lost, after the request has arrived."""
    got, lock = [], threading.Lock()

    def treat(connection, over):
        text = b""
        while not text.endswith(b"}"):
            text += connection.recv(65536)
        [event_id] = [line[12:] for line in text.split(b"\r\n") if line.startswith(b"webhook-id: ")]
        with lock:
            got.append(event_id)
            is_lost = len(got) % 2
        if not is_lost:
            connection.sendall(b"HTTP/1.1 204 done\r\nconnection: close\r\n\r\n")

    observer = webhook(hostile(treat), time_source=Clock())
    fail(observer, times=10)
    assert observer.flush(LIMIT)
    assert observer.ledger == counted(offered=10, delivered=10)
    assert len(got) == 20
    assert len(set(got)) == 10


@pytest.mark.parametrize("as_text", [False, True], ids=["bytes", "whsec"])
def test_the_signature_is_verified_over_id_time_and_body(receiver, webhook, as_text):
    key, clock = os.urandom(32), Clock()
    secret = f"whsec_{base64.b64encode(key).decode()}" if as_text else key
    server = receiver(500)
    observer = webhook(server, secret=secret, time_source=clock)
    fail(observer)
    assert observer.flush(LIMIT)
    for request in server.requests:
        headers = request.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert headers["webhook-id"] == headers["idempotency-key"] == request.payload["event_id"]
        assert "." not in headers["webhook-id"]
    first, second = (int(request.headers["webhook-timestamp"]) for request in server.requests)
    assert first == 1_700_000_000
    assert second == int(clock.now())


def test_dead_letters_are_bounded(receiver, webhook):
    observer = webhook(receiver(*[400] * 20), dead_letters=3)
    fail(observer, times=20)
    assert observer.flush(LIMIT)
    letters = observer.get_dead_letters()
    assert len(letters) == 3
    assert observer.get_metrics()["observer"] == {"sent": 0, "given_up": 20, "requests": 20, "dead_letters": 3}


def test_dead_letters_can_be_sent_again_under_their_id(receiver, webhook):
    server = receiver(*[400] * 3)
    observer = webhook(server)
    fail(observer, times=3)
    observer.flush(LIMIT)
    dead = [letter["event_id"] for letter in observer.get_dead_letters()]
    assert observer.resend_dead_letters() == 3
    assert observer.flush(LIMIT)
    assert observer.get_dead_letters() == []
    assert [request.payload["event_id"] for request in server.requests] == [*dead, *dead]
    assert [request.payload["attempt"] for request in server.requests] == [1, 1, 1, 2, 2, 2]
    assert observer.resend_dead_letters() == 0


def test_an_event_that_is_sent_again_has_all_its_attempts(receiver, webhook):
    server = receiver(*[500] * 5)
    observer = webhook(server, time_source=Clock(), attempts=3)
    fail(observer)
    observer.flush(LIMIT)
    observer.resend_dead_letters()
    observer.flush(LIMIT)
    assert [request.payload["attempt"] for request in server.requests] == [1, 2, 3, 4, 5, 6]
    assert observer.get_dead_letters() == []


def test_dead_letters_stay_dead_while_the_server_refuses_them(receiver, webhook):
    server = receiver(*[400] * 8)
    observer = webhook(server)
    fail(observer, times=4)
    observer.flush(LIMIT)
    assert observer.resend_dead_letters() <= 8
    observer.flush(LIMIT)
    assert len(observer.get_dead_letters()) == 4


def test_only_as_many_dead_letters_are_sent_again_as_the_queue_has_room_for(receiver, webhook):
    opened = threading.Event()

    def hang(handler):
        opened.wait(LIMIT)
        handler.send_response(400)
        handler.end_headers()

    observer = webhook(receiver(400, 400, 400, 400, hang), max_queue=2)
    for _ in range(4):
        fail(observer)
        observer.flush(LIMIT)
    fail(observer)
    while observer.get_metrics()["queue_length"]:
        time.sleep(0.01)
    assert observer.resend_dead_letters() == 2
    assert len(observer.get_dead_letters()) == 2
    opened.set()
    assert observer.flush(LIMIT)
    assert observer.ledger.dropped == {"overflow": 0, "shutdown": 0}


def test_reset_forgets_the_dead_letters(receiver, webhook):
    observer = webhook(receiver(400))
    fail(observer)
    observer.flush(LIMIT)
    observer.reset()
    assert observer.get_dead_letters() == []


def test_after_a_shutdown_dead_letters_stay_and_nothing_is_sent(receiver, webhook):
    server = receiver(400)
    observer = webhook(server)
    fail(observer)
    assert observer.shutdown(LIMIT)
    fail(observer)
    assert observer.resend_dead_letters() == 0
    assert len(observer.get_dead_letters()) == 1
    assert observer.ledger == counted(offered=2, failed=1, shutdown=1)
    assert observer.shutdown(LIMIT)


def test_a_shutdown_while_an_event_waits_for_its_next_attempt_is_in_time(receiver, webhook):
    server = receiver((503, {"retry-after": "60"}))
    observer = webhook(server, timeout=100)
    fail(observer, times=3)
    while not server.requests:
        time.sleep(0.01)
    began = time.monotonic()
    assert observer.shutdown(0.2) is False
    assert time.monotonic() - began < 0.4
    began = time.monotonic()
    while not observer.get_dead_letters():
        time.sleep(0.01)
        assert time.monotonic() - began < 5
    assert the_letter(observer)["reason"] == "it answered 503, and the observer was shut down, after 1 attempt"
    assert observer.ledger == counted(offered=3, failed=1, shutdown=2)


def test_a_shutdown_while_the_server_hangs_is_in_time(hostile, webhook):
    server = hostile(nothing)
    observer = webhook(server, timeout=1)
    fail(observer)
    while not server.connections:
        time.sleep(0.01)
    began = time.monotonic()
    assert observer.shutdown(0.1) is False
    assert time.monotonic() - began < 0.3
    assert observer.flush(LIMIT)


class Broken(MockTimeSource):
    def monotonic(self):
        raise RuntimeError

    now = monotonic


def test_a_clock_that_fails_leaves_all_attempts(receiver, webhook):
    server = receiver(500, 500)
    observer = webhook(server, secret=b"k" * 24, time_source=Broken())
    fail(observer)
    assert observer.flush(LIMIT)
    assert len(server.requests) == 3
    assert abs(int(server.requests[0].headers["webhook-timestamp"]) - time.time()) < 60


@pytest.fixture
def names(monkeypatch):
    """Names and the addresses they have, given as lists that are used up one after the other."""
    known, real = {}, socket.getaddrinfo

    def getaddrinfo(host, port, *arguments, **options):
        if host not in known or options.get("flags"):
            return real(host, port, *arguments, **options)
        found = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["::ffff:10.0.0.1"], ["fe80::1"]]
)
def test_a_name_that_means_an_address_inside_is_refused_without_a_connection(receiver, webhook, names, addresses):
    server = receiver()
    names["127.0.0.1.nip.example"] = [addresses]
    observer = webhook(f"http://127.0.0.1.nip.example:{server.port}/", "key", allow_private=False)
    fail(observer)
    assert observer.flush(LIMIT)
    assert server.connections == 0
    letter = the_letter(observer)
    assert "is not public" in letter["reason"]
    assert letter["attempts"] == 1


def test_the_address_that_was_looked_at_is_the_one_connected_to(receiver, webhook, names, monkeypatch):
    """A name that means a public address first, and one inside the second time it is asked."""
    server, connected = receiver(), []
    names["rebinding.example"] = [["8.8.8.8"], ["127.0.0.1"]]

    def create_connection(address, *arguments, **options):
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    observer = webhook(f"http://rebinding.example:{server.port}/", allow_private=False, time_source=Clock())
    fail(observer)
    assert observer.flush(LIMIT)
    assert connected == [("8.8.8.8", server.port)]
    assert server.connections == 0
    assert "127.0.0.1 is not public" in the_letter(observer)["reason"]
    assert the_letter(observer)["attempts"] == 2


def test_the_next_address_is_tried_if_one_does_not_answer(receiver, webhook, names):
    server = receiver()
    names["two.example"] = [["127.0.0.2", "127.0.0.1"]]
    observer = webhook(f"http://two.example:{server.port}/")
    fail(observer)
    assert observer.flush(LIMIT)
    assert server.requests[0].headers["host"] == f"two.example:{server.port}"


def test_a_search_for_addresses_ends_at_the_deadline_and_is_not_begun_twice(webhook, monkeypatch):
    over, asked = threading.Event(), []
    real = socket.getaddrinfo

    def slow(host, port, *arguments, **options):
        if options.get("flags"):
            return real(host, port, *arguments, **options)
        asked.append(host)
        over.wait(LIMIT)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    observer = webhook("http://slow.example", timeout=0.3)
    fail(observer, times=3)
    began = time.monotonic()
    assert observer.flush(LIMIT)
    assert time.monotonic() - began < 3
    assert asked == ["slow.example"]
    assert the_letter_is_late(observer)
    over.set()


def the_letter_is_late(observer):
    return all("no address was found within" in letter["reason"] for letter in observer.get_dead_letters())


def test_the_certificate_is_verified_for_the_name_not_the_address(receiver, webhook, names, tmp_path):
    of_server, of_client = tls(tmp_path)
    server = receiver(ssl_context=of_server)
    names["receiver.test"] = names["other.test"] = [["127.0.0.1"]]
    trusting = webhook(f"https://receiver.test:{server.port}/", ssl_context=of_client)
    fail(trusting, times=2)
    assert trusting.flush(LIMIT)
    assert trusting.ledger == counted(offered=2, delivered=2)
    assert server.connections == 1
    for url, context in (
        (f"https://receiver.test:{server.port}/", None),
        (f"https://other.test:{server.port}/", of_client),
        (f"https://127.0.0.1:{server.port}/", of_client),
    ):
        observer = webhook(url, "key", ssl_context=context)
        fail(observer)
        assert observer.flush(LIMIT)
        letter = the_letter(observer)
        assert "CERTIFICATE_VERIFY_FAILED" in letter["reason"]
        assert letter["attempts"] == 1
    assert len(server.requests) == 2


def test_a_handshake_that_never_ends_ends_at_the_deadline(hostile, webhook):
    server = hostile(nothing)
    observer = webhook(f"https://127.0.0.1:{server.port}/", timeout=0.4)
    fail(observer)
    assert observer.flush(LIMIT)
    assert the_letter(observer)["reason"].startswith("it took too long")


def test_the_limit_of_reading_is_64_kb():
    assert http_client.MOST_READ == 64 * 1024
