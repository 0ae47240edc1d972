"""Which addresses are public, and how names become addresses."""

from __future__ import annotations

import socket
import threading

import pytest

from callpyback.sinks.addresses import AddressRefusedError, Resolver, is_public, number_of, refuse_private

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_of_the_public_internet_is_private(address):
    assert not is_public(address)
    with pytest.raises(AddressRefusedError, match="not public"):
        refuse_private(["8.8.8.8", address, "1.1.1.1"])


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_of_the_public_internet_is_public(address):
    assert is_public(address)
    refuse_private([address])


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0x7f.0.0.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
    ],
)
def test_every_spelling_of_a_number_is_seen_to_be_one(host, address):
    assert number_of(host) == address


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.nip.io", "localhost", "a" * 300, "x..y", "\udcff", ""])
def test_a_name_is_no_number(host):
    assert number_of(host) is None


def test_a_number_is_its_own_address_and_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("asked"))
    assert Resolver().addresses_of("8.8.8.8", 443, 1) == ["8.8.8.8"]


def test_every_address_of_a_name_is_found_once():
    assert set(Resolver().addresses_of("localhost", 80, 10)) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "x..y.example", "\udcff.example"])
def test_what_is_no_name_has_no_address(name):
    with pytest.raises(OSError, match="no address"):
        Resolver().addresses_of(name, 80, 10)


def test_a_search_that_took_too_long_is_not_begun_again_and_gives_its_result_to_the_next(monkeypatch):
    over, asked = threading.Event(), []
    real = socket.getaddrinfo

    def slow(host, port, *arguments, **options):
        if options.get("flags"):
            return real(host, port, *arguments, **options)
        asked.append(host)
        over.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = Resolver()
    for _ in range(2):
        with pytest.raises(TimeoutError, match="within"):
            resolver.addresses_of("slow.example", 80, 0.01)
    over.set()
    assert resolver.addresses_of("slow.example", 80, 20) == ["8.8.8.8"]
    assert asked == ["slow.example"]


def test_where_no_thread_can_be_started_the_search_is_made_at_once(monkeypatch):
    def no_more_threads(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    assert Resolver().addresses_of("localhost", 80, 10)
