"""Which addresses may be reached, and finding a name's addresses within a limit of time."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any, Final

from callpyback.core.forks import reset_after_fork

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052: the last four bytes are an IPv4 address, which a gateway of an IPv6-only network reaches.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # RFC 4291; what IANA has given out is all in here
# RFC 3056 and RFC 4380: tunnels that carry an IPv4 address along. Nobody receives webhooks through them.
_TUNNELS: Final = (ipaddress.IPv6Network("2002::/16"), ipaddress.IPv6Network("2001::/32"))


class AddressRefusedError(Exception):
    """A name stands for an address that must not be reached."""


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet.

    Loopback, private, shared, link-local, multicast, documentation and reserved addresses are not, nor are IPv6
    addresses that carry such an IPv4 address inside.

    Example:
        >>> [is_public(address) for address in ("8.8.8.8", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1")]
        [True, False, False, False]
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = _ipv4_inside(found)
        if inner is None:
            is_tunnel = any(found in tunnel for tunnel in _TUNNELS)
            return found in _GLOBAL_UNICAST and found.is_global and not is_tunnel and found.scope_id is None
        found = inner
    return found.is_global and not found.is_multicast


def _ipv4_inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def number_of(host: str) -> str | None:
    """Return the address that a host is a spelling of, such as 127.0.0.1 for `0x7f.1`; None for a name.

    The system is asked, since it is the system that would connect to it.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            continue
        return str(found[0][4][0])
    return None


class Resolver:
    """Finds the addresses of a name, in a thread where that may take long: the system's search has no limit of time."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], _Search] = {}
        reset_after_fork(self)

    def reset_after_fork(self) -> None:
        """Forget searches whose threads are the parent's."""
        self._under_way = {}

    def addresses_of(self, host: str, port: int, seconds: float) -> list[str]:
        """Return the addresses, each once, in the order in which they should be tried.

        A search that took too long is asked again by the next who wants the same, rather than begun a second time.

        Raises:
            OSError: There are none, or it took too long.
        """
        number = number_of(host)
        if number is not None:
            return [number]
        key = (host, port)
        search = self._under_way.get(key)
        if search is None:
            search = self._under_way[key] = _Search(host, port)
            search.start()
        if not search.done.wait(seconds):
            raise TimeoutError(f"no address was found within {seconds:.3g} s")
        self._under_way.pop(key, None)
        if search.error is not None:
            raise search.error
        return search.found


class _Search:
    def __init__(self, host: str, port: int) -> None:
        self._asked = (host, port)
        self.done = threading.Event()
        self.found: list[str] = []
        self.error: OSError | None = None

    def start(self) -> None:
        try:
            threading.Thread(target=self._run, name="callpyback address", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._run()

    def _run(self) -> None:
        try:
            found: list[Any] = socket.getaddrinfo(*self._asked, type=socket.SOCK_STREAM)
            self.found = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except OSError as error:
            self.error = OSError(f"no address: {error.strerror or type(error).__name__}")
        except UnicodeError:
            self.error = OSError("no address: this is no name of a host")
        finally:
            self.done.set()


def refuse_private(addresses: list[str]) -> None:
    """Refuse a name of which any address is not public: it could be any of them that is connected to.

    Raises:
        AddressRefusedError: There is one.
    """
    for address in addresses:
        if not is_public(address):
            message = f"its address {address} is not public; allow_private=True would allow it"
            raise AddressRefusedError(message)
