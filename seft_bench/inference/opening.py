"""A chat client from the settings of a server: a judge's, and those of a model that is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seft_bench.config import ServerSettings
from seft_bench.errors import InputError
from seft_bench.inference.client import ChatClient
from seft_bench.inference.store import ResponseStore


def open_client(
    server: ServerSettings,
    model: str,
    store_path: Path | None,
    *,
    epoch: str = "",
    on_missing_key: Callable[[str], InputError] | None = None,
) -> ChatClient:
    """Return a client of a server's model.

    Args:
        store_path: replies are kept there the moment that they arrive; None keeps nothing.
        epoch, on_missing_key: see `ChatClient`.

    Raises:
        InputError: no address of a server.
    """
    return ChatClient(
        server.base_url,
        model,
        server.api_key_env,
        ResponseStore(store_path) if store_path else None,
        max_in_flight=server.max_in_flight,
        timeout_seconds=server.timeout_seconds,
        max_attempts=server.max_attempts,
        api_key_header=server.api_key_header,
        headers=server.headers,
        query=server.query,
        epoch=epoch,
        on_missing_key=on_missing_key,
    )
