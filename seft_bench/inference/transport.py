"""HTTP to one server: a request out; status, headers and a bounded body in, or one kind of error.

Nothing is sent on to where a server redirects: prompts and keys go to the address that was given. A body is read up to
a limit, so that no server can fill the memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from seft_bench.errors import InputError
from seft_bench.inference.addresses import Address, shown_url
from seft_bench.inference.secrets import Secrets

MOST_BODY_BYTES = 16 * 2**20
"""The JSON of 100,000 tokens takes a few of these megabytes with everything that a server can say about each."""
AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com")


@dataclass(frozen=True, slots=True)
class Response:
    """What a server sent.

    Attributes:
        text: the body, with U+FFFD for what is no UTF-8.
        is_whole: False where the body outgrew `MOST_BODY_BYTES` and was left unread.
    """

    status: int
    headers: Mapping[str, str]
    text: str
    is_whole: bool = True


class TransportError(Exception):
    """A request without a reply.

    Attributes:
        is_unreachable: nobody took the connection; else the server may have done its work all the same.
    """

    def __init__(self, reason: str, is_unreachable: bool = False) -> None:
        super().__init__(reason)
        self.is_unreachable = is_unreachable


@dataclass(frozen=True)
class Credentials:
    """The key of a server, and the headers that go with each request.

    Attributes:
        variable: NAME of the environment variable that holds the key; None for servers without one.
        header: that carries the key; None: `Authorization: Bearer`, or `api-key` at Azure.
        headers: more headers, none of them a secret.
        on_missing: makes the error for a missing key, so that the caller can name what would work instead.
    """

    variable: str | None = None
    header: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    on_missing: Callable[[str], InputError] | None = None

    def key(self) -> str:
        """Return the key, "" where there is none."""
        return os.environ.get(self.variable, "").strip() if self.variable else ""

    def headers_for(self, address: Address) -> dict[str, str]:
        """Return the headers of a request.

        Raises:
            InputError: the key is not set, or is none.
        """
        if self.variable is None:
            return {**self.headers, **({"Authorization": address.basic} if address.basic else {})}
        key = self._checked(address)
        at_azure = address.shown.partition("://")[2].partition("/")[0].partition(":")[0].endswith(AZURE_HOSTS)
        header = self.header or ("api-key" if at_azure else "Authorization")
        return {**self.headers, header: f"Bearer {key}" if header.lower() == "authorization" else key}

    def _checked(self, address: Address) -> str:
        key = self.key()
        if not key and self.variable and self.on_missing:
            raise self.on_missing(self.variable)
        if not key:
            raise InputError(f"{self.variable} is not set: {address.shown} needs a key.")
        if not key.isprintable() or not key.isascii():
            raise InputError(f"{self.variable} holds characters that no key has (a line break, say). Set it again.")
        return key

    def secrets(self, address: Address) -> Secrets:
        return Secrets([self.key(), *address.secrets])


def open_session(timeout_seconds: float) -> Any:
    """Open a pool of connections; the caller bounds how many are in use."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())


async def send(
    session: Any, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None = None
) -> Response:
    """Send one request and read its response.

    Raises:
        TransportError: there is none.
        InputError: the server redirects.
    """
    import aiohttp

    started_at = time.monotonic()
    try:
        async with session.request(method, url, json=body, headers=headers, allow_redirects=False) as response:
            refuse_redirect(url, response.status, response.headers)
            text, is_whole = await _bounded_text(response)
            return Response(response.status, response.headers, text, is_whole)
    except aiohttp.InvalidURL:
        raise InputError(f"not an address of a server: {shown_url(url)!r}. Check `base_url` (or --server).") from None
    except aiohttp.ClientConnectorError as error:
        cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", error)
        why = getattr(cause, "strerror", None) or getattr(cause, "verify_message", None) or type(cause).__name__
        raise TransportError(f"no connection to {shown_url(url)} ({why})", is_unreachable=True) from None
    except TimeoutError:
        raise TransportError(f"no reply within {time.monotonic() - started_at:.3g} seconds") from None
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        raise TransportError(f"the connection broke ({type(error).__name__})") from None


async def _bounded_text(response: Any) -> tuple[str, bool]:
    """Return the body as text, and whether it is whole."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MOST_BODY_BYTES:
            response.close()
            return "", False
        parts.append(part)
    return b"".join(parts).decode("utf-8-sig", errors="replace"), True


def refuse_redirect(url: str, status: int, headers: Mapping[str, str]) -> None:
    """Raise InputError for a redirect, to whatever host: what is sent goes to the address that was given only."""
    location = headers.get("Location", "")
    if 300 <= status < 400 and status != 304:
        raise InputError(
            f"{shown_url(url)} redirects to {shown_url(urljoin(url, location))[:300]!r} (HTTP {status}). Prompts and "
            "keys are not sent on: if that is where they are to go, make it the `base_url` (or --server)."
        )
