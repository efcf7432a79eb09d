"""A real chat-completions server on this machine whose faults are written down beforehand, and a clock that never
waits.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from seft_bench.inference.weights import FIXED_PROMPT

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def completion(text: str = "Rating: [[7]]", model: str = "judge", **choice: Any) -> dict[str, Any]:
    """A well-formed response."""
    message = {"role": "assistant", "content": text, "refusal": None} | choice.pop("message", {})
    return {
        "id": "chatcmpl-1",
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message} | choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


def token_completion(logprobs: dict[str, float] | None, text: str = "m") -> dict[str, Any]:
    """A response of one token, with the log-probabilities at its position."""
    if logprobs is None:
        return completion(text)
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    return completion(
        text, logprobs={"content": [{"token": text, "logprob": logprobs.get(text, -9.0), "top_logprobs": top}]}
    )


async def ok(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(token_completion({"m": -0.1, "M": -2.4}) if body.get("logprobs") else completion())


def status(code: int, text: str = "", **headers: str) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(
            status=code, text=text, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return answer


def body_of(value: Any) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(
            text=value if isinstance(value, str) else json.dumps(value), content_type="application/json"
        )

    return answer


def after(seconds: float, then: Handler = ok) -> Handler:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(request, body)

    return answer


async def cut(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Half a response, then the connection is gone."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def drip(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """One byte at a time: never silent, never done."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for _ in range(200):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


class ChatServer:
    """Answers the n-th request with the n-th handler of `script`, all later ones with `otherwise`.

    Attributes:
        bodies: of the requests, in order of arrival.
        answered: how many got their whole response.
        most_at_once: the most requests that were in flight together.
        fingerprint: handles the requests that ask which weights are served; they count in `fingerprints` and nowhere
            else.
        version: of the engine, None for servers that do not say.
        listed: what `GET /models` answers; None: `models`.
    """

    def __init__(self, script: list[Handler], otherwise: Handler) -> None:
        self.script, self.otherwise = list(script), otherwise
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.queries: list[str] = []
        self.answered = 0
        self.most_at_once = 0
        self.models: list[dict[str, Any]] = [{"id": "judge", "root": "weights-1"}]
        self.fingerprint: Handler = ok
        self.fingerprints: list[dict[str, Any]] = []
        self.version: str | None = None
        self.listed: str | None = None
        self._now = 0
        self.url = ""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["messages"] == list(FIXED_PROMPT):
            self.fingerprints.append(body)
            return await self.fingerprint(request, body)
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.queries.append(request.query_string)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            response = await (self.script[number] if number < len(self.script) else self.otherwise)(request, body)
        finally:
            self._now -= 1
        self.answered += 1
        return response

    async def listing(self, request: web.Request) -> web.Response:
        if self.listed is not None:
            return web.Response(text=self.listed, content_type="application/json")
        return web.json_response(
            {"object": "list", "data": [{**model, "created": len(self.bodies)} for model in self.models]}
        )

    async def engine(self, request: web.Request) -> web.Response:
        return web.json_response({"version": self.version}) if self.version else web.Response(status=404)


@contextmanager
def serving(*script: Handler, otherwise: Handler = ok) -> Iterator[ChatServer]:
    """A server in a thread of its own, at `server.url`."""
    server, loop, ready = ChatServer(list(script), otherwise), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.chat)
        app.router.add_get("/v1/models", server.listing)
        app.router.add_get("/version", server.engine)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


class FakeTime:
    """Time that passes only by sleeping, and at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    def clock(self) -> float:
        return self.now
