"""Checks of what a webhook is made with: a refusal names the parameter and the way out, and shows no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callpyback.core.configuration import looking_at
from callpyback.errors import ConfigurationError
from callpyback.sinks.addresses import is_public, number_of
from callpyback.sinks.webhook_request import key_of

if TYPE_CHECKING:
    import ssl

    from callpyback.sinks.http_client import Target

_LONGEST_URL: Final = 2000


def _refuse(parameter: str, shown: str, expected: str) -> ConfigurationError:
    """Return the refusal of a value that must not be shown as it is."""
    return ConfigurationError(f"{parameter}={shown}: expected {expected}")


def checked_target(url: Any, *, allow_http: bool, allow_private: bool) -> Target:
    """Return where a URL leads, if a webhook may go there."""
    from callpyback.sinks.http_client import parsed  # noqa: PLC0415 - brings httpx

    expected = "a URL, such as 'https://example.com/hook'"
    if not isinstance(url, str):
        raise _refuse("url", f"<not shown> ({type(url).__name__})", expected)
    if not 0 < len(url) <= _LONGEST_URL or not url.isprintable() or any(c in url for c in " \\"):
        raise _refuse("url", "<not shown>", f"{expected}, of at most {_LONGEST_URL} characters, without blanks")
    try:
        target, has_user = parsed(url)
    except ValueError as error:
        raise _refuse("url", f"<not shown>, {error}", expected) from None
    shown = repr(target.shown)
    if target.scheme not in ("https", "http"):
        raise _refuse("url", "<not shown>", "https:// at its beginning")
    if target.scheme == "http" and not allow_http:
        raise _refuse("url", shown, "https; allow_http=True allows what anybody on the way can read")
    if has_user:
        raise _refuse("url", shown, "no user or password in it; a key goes into api_key=")
    if not target.host or "%" in target.host:
        raise _refuse("url", shown, "the name or the address of a host in it")
    if target.port is not None and not 0 < target.port < 2**16:
        raise _refuse("url", shown, "a port from 1 to 65535")
    if not allow_private and _is_private(target.host):
        raise _refuse("url", shown, "a host of the public internet; allow_private=True allows others")
    return target


def _is_private(host: str) -> bool:
    """Return whether a host can be seen, without asking anybody, not to be public."""
    number = number_of(host)
    if number is not None:
        return not is_public(number)
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")  # RFC 6761, 6.3


def checked_api_key(api_key: Any) -> str | None:
    """Return a text that can stand in a header."""
    with looking_at("api_key", "<not shown>"):
        if api_key is None:
            return None
        if not isinstance(api_key, str) or not api_key or not api_key.isascii() or not api_key.isprintable():
            raise _refuse("api_key", f"<not shown> ({type(api_key).__name__})", "a text of printable ASCII characters")
        return str(api_key)


def checked_secret(secret: Any) -> bytes | None:
    """Return the key of the signatures."""
    with looking_at("secret", "<not shown>"):
        if secret is None:
            return None
        if not isinstance(secret, str | bytes | bytearray):
            raise _refuse("secret", f"<not shown> ({type(secret).__name__})", "a text or bytes")
        try:
            return key_of(secret)  # type: ignore[arg-type]
        except ValueError as error:
            raise _refuse("secret", "<not shown>", str(error)) from None


def checked_ssl_context(ssl_context: Any) -> ssl.SSLContext | None:
    """Return a context that verifies whom it talks to."""
    import ssl  # noqa: PLC0415 - httpx has brought it

    if ssl_context is None:
        return None
    if not isinstance(ssl_context, ssl.SSLContext):
        shown = f"<not shown> ({type(ssl_context).__name__})"
        raise _refuse("ssl_context", shown, "an ssl.SSLContext, such as ssl.create_default_context(cafile=...)")
    if ssl_context.verify_mode is not ssl.CERT_REQUIRED or not ssl_context.check_hostname:
        expected = "one that verifies certificates and their names; for an authority of your own, load its certificate"
        raise _refuse("ssl_context", repr(ssl_context), expected)
    return ssl_context
