"""A judge's server whose grades tell samples apart."""

from __future__ import annotations

import zlib
from typing import Any

from aiohttp import web

from tests.faults.chat_server import completion


async def by_text(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A grade that depends on the whole prompt."""
    asked = body["messages"][-1]["content"]
    return web.json_response(completion(f"Rating: [[{1 + zlib.crc32(asked.encode()) % 10}]]"))
