"""A pooled asynchronous client for OpenAI-compatible chat completions that loses nothing.

Each response is in the store the moment that it arrives, if it is good; a stored one is never asked for again. What a
server can do wrong becomes a `Reply` with a status, or an exception that stops the run with what arrived kept:

    429                                 wait (Retry-After, else backoff), fewer in flight, try again
    5xx, time-out, cut, malformed       backoff with jitter, try again, at last `api_error`
    an error in a 200 reply             as its code says; else tried again, at last `api_error`, or `partial` with text
    no text, and no reason              tried again a few times, at last `empty`
    content filter, refusal, moderation `refused`
    400 on length, 413                  `over_length`
    other 4xx                           `api_error`
    many failures in a row              a pause, then the run stops
    key, model, a parameter, a redirect the run stops with one message, in the server's words: another run says the same
    no money, no server                 the run stops with one message: another run may go on
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seft_bench.console import note
from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.inference.addresses import address_of
from seft_bench.inference.bodies import decode_body
from seft_bench.inference.budget import Meter
from seft_bench.inference.concurrency import AdaptiveLimit
from seft_bench.inference.failures import Settings
from seft_bench.inference.replies import KEPT, Reply, read_completion
from seft_bench.inference.responses import ResponseReader, Retry, only_fails
from seft_bench.inference.store import ResponseStore, request_key
from seft_bench.inference.transport import Credentials, Response, TransportError, open_session, send
from seft_bench.records import Message

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
GET_ATTEMPTS = 3
EMPTY_ATTEMPTS = 3
"""A model that has said nothing so often has nothing to say: `empty` is then its answer."""
FAILURES_IN_A_ROW_TO_PAUSE, PAUSE_SECONDS = 10, 60.0
FAILURES_IN_A_ROW_TO_STOP = 20
"""So many requests given up, and none answered in between, mean that the server is gone: stop, keep what is there."""

OnReply = Callable[[int, Reply], None]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One request.

    Attributes:
        sampling: what goes into the body beside model and messages (temperature, max_tokens, seed, logprobs).
        template_version: of the prompt; "" for plain generation.
        is_good: whether a response is worth keeping; what cannot be parsed is asked for again on the next run.
        sample_index: which of several samples of one request; each is sent, kept and paid for by itself.
        repeat: above 0 for a repetition on purpose, which has a place of its own in the store.
    """

    messages: tuple[Message, ...]
    sampling: Mapping[str, Any]
    template_version: str = ""
    is_good: Callable[[Reply], bool] = field(default=lambda reply: True, compare=False)
    sample_index: int = 0
    repeat: int = 0


class ChatClient:
    """Sends chat completions to one server for one model.

    Args:
        base_url: with a query where each request needs one; user and password in it are sent, and never shown.
        api_key_env: NAME of the environment variable that holds the key, None for servers without one. The key is read
            when a request needs it and is cut out of whatever the server says.
        store: None keeps nothing.
        weights_fingerprint: enters the keys of stored responses: one local server serves many checkpoints over time.
            Where it is "" and there is no key, `weights.fingerprint_local_weights` measures it.
        epoch: enters the keys too: another word asks everything again.
        api_key_header, headers: see `Credentials`.
        query: parameters added to the base URL's.
        settings: where the settings stand, for advice.
        on_missing_key: makes the error for a missing key, so that the caller can name what would work instead.
        sleep, clock: replaced in tests.

    Attributes:
        address: of the server.
        probes: replies to probes so far.
        notes: facts about the server, each once.

    Raises:
        InputError: no address of a server.
    """

    meter: Meter | None = None  # counts what is paid, and stops at a budget
    empty_attempts = EMPTY_ATTEMPTS
    path = "/chat/completions"

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None,
        store: ResponseStore | None,
        *,
        max_in_flight: int = 64,
        timeout_seconds: float = 120.0,
        max_attempts: int = 6,
        weights_fingerprint: str = "",
        epoch: str = "",
        api_key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        on_missing_key: Callable[[str], InputError] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address_of(base_url, dict(query or {}))
        self.credentials = Credentials(api_key_env, api_key_header, dict(headers or {}), on_missing_key)
        if self.address.basic and api_key_env:
            raise InputError(
                f"{self.address.shown} has a user and password in its address, and a key in {api_key_env}: leave one "
                "of them out (no key: `api_key_env: null`)."
            )
        self.model, self.store, self.settings = model, store, settings or Settings()
        self.timeout_seconds, self.max_attempts, self.max_in_flight = timeout_seconds, max_attempts, max_in_flight
        self.weights_fingerprint, self.measured_fingerprint, self.epoch = weights_fingerprint, "", epoch
        self.limit = AdaptiveLimit(max_in_flight, sleep, clock)
        self._sleep, self._clock = sleep, clock
        self._jitter = random.Random()  # spreads retries over time; no result depends on it
        self._failures_in_a_row = 0
        self.probes: list[Reply] = []
        self.notes: list[str] = []

    @property
    def base_url(self) -> str:
        """The server's address without secrets."""
        return self.address.shown

    @property
    def api_key_env(self) -> str | None:
        return self.credentials.variable

    def run(self, calls: Sequence[ChatCall], on_reply: OnReply) -> None:
        """Send all calls; `on_reply(index, reply)` is called as each arrives, in any order.

        Equal calls are sent once. An exception out of `on_reply`, or Ctrl-C, cancels what is in flight and is passed
        on.

        Raises:
            InputError: no key, a key or a model that the server refuses.
            ServiceUnavailableError: the server cannot be reached, has no quota left, or keeps failing.
        """
        if calls:
            asyncio.run(self._run(calls, on_reply))

    def probe(self, call: ChatCall) -> Reply:
        """Send one call now, past the store and the limit; what fails is an exception or the reply's status."""
        replies: list[Reply] = []
        store, self.store = self.store, None
        limit, self.limit = self.limit, AdaptiveLimit(1, self._sleep, self._clock)
        try:
            self.run([call], lambda _, reply: replies.append(reply))
        finally:
            self.store, self.limit = store, limit
        self.probes += replies
        return replies[0]

    def get_json(self, url: str) -> dict[str, Any] | None:
        """Return the JSON object at an address of this server; None if there is none, or nobody answers."""
        return asyncio.run(self._get_json(url))

    @property
    def server_in_keys(self) -> str:
        """The server's name in the keys of stored responses."""
        return self.base_url

    def key_of(self, call: ChatCall) -> str:
        epoch = "/".join(part for part in (self.epoch, f"repeat-{call.repeat}" if call.repeat else "") if part)
        server, weights = self.server_in_keys, self.weights_fingerprint
        return request_key(
            server, self.model, call.messages, call.sampling, call.template_version, call.sample_index, epoch, weights
        )

    async def _run(self, calls: Sequence[ChatCall], on_reply: OnReply) -> None:
        same: dict[str, list[int]] = {}
        for index, call in enumerate(calls):
            same.setdefault(self.key_of(call), []).append(index)
        queue = iter(same.items())  # shared: each worker takes the next

        async def work(session: Any) -> None:
            for key, indices in queue:
                reply = self._stored(key) or await self._ask(session, calls[indices[0]], key)
                for position, index in enumerate(indices):
                    on_reply(index, reply if position == 0 else reply.as_stored())

        async with open_session(self.timeout_seconds) as session:
            await _run_all([work(session) for _ in range(min(self.max_in_flight, len(same)))])

    def _stored(self, key: str) -> Reply | None:
        """Return the reply in the store; what is none by today's rules (an error, say) is taken out of it."""
        kept = self.store.get(key) if self.store else None
        if self.store is None or kept is None:
            return None
        try:
            reply = self._completion(self._reader().cleaned(kept["body"]), kept.get("latency_seconds"))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            reply = Reply("api_error")
        if reply.status in KEPT:
            return dataclasses.replace(reply, received_at=str(kept.get("received_at") or ""), stored=True)
        self.store.forget(key)
        return None

    async def _ask(self, session: Any, call: ChatCall, key: str) -> Reply:
        """Try until there is a reply or no attempt left; a good reply is stored before anything else happens."""
        failure, empty = Retry("none was made"), 0
        for attempt in range(self.max_attempts):
            if attempt:
                await self._sleep(self._backoff_seconds(attempt, failure.wait_seconds))
            try:
                reply = await self._metered_attempt(session, call)
            except Retry as error:
                failure = error
                continue
            empty += _is_silent(reply)
            if _is_silent(reply) and empty < min(self.empty_attempts, self.max_attempts):
                failure = Retry("an empty reply")
                continue
            self._keep(key, call, reply)
            return self._noted(reply)
        if failure.is_unreachable:
            raise ServiceUnavailableError(
                f"{failure}. Is the server running? What arrived is kept; the same command goes on."
            )
        text = f"given up after {self.max_attempts} attempts, the last one: {failure}"
        if failure.partial:
            return self._noted(dataclasses.replace(failure.partial, error=text, attempts_failed=True))
        return self._noted(Reply("api_error", text=text, attempts_failed=True))

    async def _metered_attempt(self, session: Any, call: ChatCall) -> Reply:
        if self.meter is None:
            return await self._attempt(session, call)
        return await self.meter.count(call.messages, call.sampling, functools.partial(self._attempt, session, call))

    def _keep(self, key: str, call: ChatCall, reply: Reply) -> None:
        if reply.status in KEPT and self.store and call.is_good(reply):
            kept = {"body": reply.body, "latency_seconds": reply.latency_seconds, "received_at": reply.received_at}
            self.store.put(key, kept)

    def _noted(self, reply: Reply) -> Reply:
        """Pause, and at last stop, when requests keep failing without one success in between."""
        self._failures_in_a_row = self._failures_in_a_row + 1 if reply.status in ("api_error", "partial") else 0
        if self._failures_in_a_row >= FAILURES_IN_A_ROW_TO_STOP:
            raise only_fails(self.base_url, self._failures_in_a_row, reply)
        if self._failures_in_a_row == FAILURES_IN_A_ROW_TO_PAUSE and reply.attempts_failed:
            self.limit.pause(PAUSE_SECONDS)
            note(f"{self.base_url} failed {self._failures_in_a_row} requests in a row: a pause of {PAUSE_SECONDS:g} s")
        return reply

    def _backoff_seconds(self, attempt: int, told_seconds: float | None) -> float:
        """Return the wait that the server asks for, else one that doubles, with jitter: never the same for all."""
        if told_seconds is not None:
            return told_seconds
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** (attempt - 1))
        return longest * (0.5 + self._jitter.random() / 2)

    async def _attempt(self, session: Any, call: ChatCall) -> Reply:
        headers = self.credentials.headers_for(self.address)
        entered_at = await self.limit.enter()
        try:
            response = await send(session, "POST", self.address.url(self.path), headers, self._body(call))
            reply = self._reader().read(response, call.sampling, self._clock() - entered_at)
        except TransportError as error:
            raise Retry(str(error), is_unreachable=error.is_unreachable, may_be_paid=not error.is_unreachable) from None
        except Retry as error:
            if error.is_throttled:
                self.limit.throttle(entered_at, error.wait_seconds)
            raise
        finally:
            self.limit.leave()
        if response.status < 300:
            self.limit.succeeded()
        return reply

    def _reader(self) -> ResponseReader:
        secrets = self.credentials.secrets(self.address)
        return ResponseReader(
            self.base_url, self.model, self.api_key_env, self.settings, secrets, self._completion, self._note
        )

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _completion(self, body: Mapping[str, Any], latency_seconds: float | None) -> Reply:
        return read_completion(body, latency_seconds)

    def _body(self, call: ChatCall) -> dict[str, Any]:
        return {"model": self.model, "messages": list(call.messages), **call.sampling}

    async def _get_json(self, url: str) -> dict[str, Any] | None:
        headers = self.credentials.headers_for(self.address)
        async with open_session(self.timeout_seconds) as session:
            for attempt in range(GET_ATTEMPTS):
                if attempt:
                    await self._sleep(self._backoff_seconds(attempt, None))
                try:
                    response = await send(session, "GET", url, headers)
                except InputError:
                    return None  # a redirect
                except TransportError as error:
                    if error.is_unreachable:
                        return None
                    continue
                if response.status < 500:
                    return self._json_of(response)
        return None

    def _json_of(self, response: Response) -> dict[str, Any] | None:
        try:
            return self._reader().cleaned(decode_body(response.text)) if response.status == 200 else None
        except ValueError:
            return None


def _is_silent(reply: Reply) -> bool:
    """Say whether nothing came at all: neither a text, nor reasoning that took all the tokens."""
    return reply.status == "empty" and reply.finish_reason != "length" and not reply.reasoning


async def _run_all(work: Sequence[Any]) -> None:
    """Run all to the end, or pass on the first exception after cancelling the rest."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
