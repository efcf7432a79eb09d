"""Addresses of servers. Pure: a base URL in; whole URLs for requests, and a form without secrets for people, out.

A base URL may have a query (Azure's `?api-version=...`), which stays behind the path of each request, and a user and
password, which are sent as Basic authorisation and never shown.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from seft_bench.errors import InputError

MASK = "[key]"
CHAT_PATH = "/chat/completions"
_SECRET_PARAMETERS = re.compile(r"key|token|secret|password|signature|^sig$|^code$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """A server's base URL, taken apart.

    Attributes:
        shown: without user, password and keys in the query; what stands in ids, stored keys and messages.
        basic: the value of the Authorization header that user and password make; "" without them.
        secrets: what must reach no record and no message.
    """

    shown: str
    basic: str
    secrets: tuple[str, ...]
    _parts: SplitResult

    def url(self, path: str) -> str:
        """Return the URL of a path below the base, with the base's query behind it.

        >>> address_of("https://host/openai?api-version=1").url("/models")
        'https://host/openai/models?api-version=1'
        """
        return urlunsplit(self._parts._replace(path=self._parts.path + path))

    def beside(self, path: str) -> str:
        """Return the URL of a path beside the API's `/v1`."""
        return urlunsplit(self._parts._replace(path=self._parts.path.removesuffix("/v1") + path))


def address_of(base_url: str, query: dict[str, str] | None = None) -> Address:
    """Take a base URL apart.

    Args:
        query: parameters added to the URL's own.

    Raises:
        InputError: it is no http(s) URL with a host.
    """
    parts = _split(base_url.strip())
    path = parts.path.rstrip("/").removesuffix(CHAT_PATH).rstrip("/")
    parameters = "&".join(part for part in (parts.query, urlencode(query or {})) if part)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path, query=parameters, fragment="")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    basic = "Basic " + b64encode(f"{user}:{password}".encode()).decode() if user or password else ""
    hidden = [value for name, value in parse_qsl(parameters) if _SECRET_PARAMETERS.search(name)]
    shown = urlunsplit(bare._replace(query=_masked_query(parameters)))
    pair = f"{user}:{password}" if password else ""
    secrets = tuple(filter(None, [pair, password, basic.removeprefix("Basic "), *hidden]))
    return Address(shown, basic, secrets, bare)


def _split(base_url: str) -> SplitResult:
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # a ValueError where it is no number
        labels = (parts.hostname or "").removesuffix(".").split(".")
        known = parts.scheme in ("http", "https") and " " not in base_url and all(0 < len(part) < 64 for part in labels)
    except ValueError:
        known = False
    if not known:
        raise InputError(
            f"not an address of a server: {shown_url(base_url)!r}. `base_url` (or --server) is one as in "
            "http://127.0.0.1:8000/v1"
        )
    return parts


def _masked_query(query: str) -> str:
    """Mask keys in a query; all else stays as it was written."""
    pairs = [part.partition("=") for part in query.split("&")] if query else []
    return "&".join(
        f"{name}={MASK}" if _SECRET_PARAMETERS.search(name) else name + is_ + value for name, is_, value in pairs
    )


def shown_url(text: str) -> str:
    """Return a URL, or what was meant to be one, without user, password and keys in its query.

    >>> shown_url("https://me:secret@host/v1?key=abc&x=1")
    'https://host/v1?key=[key]&x=1'
    """
    base, mark, query = re.sub(r"//[^/?#]*@", "//", text).partition("?")
    return base + mark + _masked_query(query)
