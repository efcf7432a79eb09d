"""A command's budget and spending: no request leaves whose worst case could carry the sum over the budget.

The worst case of a request is one token for each byte of its prompt (a byte-level tokenizer cannot make more) and all
the tokens that it allows for the reply. It is held while the request is in flight and replaced by what was really paid:
the tokens of the reply's `usage`. A reply that never arrived may have been paid for all the same, so it counts as its
worst case; so does one whose `usage` is missing or cannot be (negative, NaN, text), or a budget would never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from seft_bench.errors import ServiceUnavailableError
from seft_bench.inference.prices import Price
from seft_bench.inference.replies import Reply
from seft_bench.records import Message
from seft_bench.texts import utf8

TOKENS_BESIDE_A_MESSAGE = 16
"""More than any chat template puts around one message."""
MOST_REPLY_TOKENS = 131_072
"""Of a request that names no limit."""


class BudgetSpentError(ServiceUnavailableError):
    """The next request could carry the spending over the budget."""


class Budget:
    """One command's spending over all its servers, in US dollars.

    Args:
        limit_usd: None counts without stopping anything.

    Attributes:
        paid_usd: of replies, by their token counts.
        unsure_usd: the worst case of replies that never arrived.
        held_usd: the worst case of what is in flight.
        unpriced: replies that cost an unknown price.
    """

    def __init__(self, limit_usd: float | None = None) -> None:
        self.limit_usd = limit_usd
        self.paid_usd = self.unsure_usd = self.held_usd = 0.0
        self.unpriced = 0
        self._in_flight = 0
        self._closed = False
        self._changed: list[asyncio.Future[None]] = []

    @property
    def spent_usd(self) -> float:
        return self.paid_usd + self.unsure_usd

    async def hold(self, worst_usd: float) -> None:
        """Wait until the request fits beside what is spent and in flight.

        Raises:
            BudgetSpentError: it does not fit, and nothing is in flight that could turn out cheaper.
        """
        while not self._fits(worst_usd):
            # Closed for all, or a smaller request would leave now and be cancelled by this one's end.
            self._closed = self._closed or not self._in_flight
            if self._closed:
                raise BudgetSpentError(self._message(worst_usd))
            change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.append(change)
            await change
        self.held_usd += worst_usd
        self._in_flight += 1

    def _fits(self, worst_usd: float) -> bool:
        if self.limit_usd is None:
            return True
        return not self._closed and self.spent_usd + self.held_usd + worst_usd <= self.limit_usd

    def settle(self, worst_usd: float, paid_usd: float, unsure_usd: float = 0.0) -> None:
        """Replace what was held by what was paid."""
        self._in_flight -= 1
        self.held_usd = self.held_usd - worst_usd if self._in_flight else 0.0  # no dust of rounding stays behind
        self.paid_usd += paid_usd
        self.unsure_usd += unsure_usd
        waiting, self._changed = self._changed, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def said(self) -> str:
        """Return the spending in words."""
        why = "for replies that never arrived, or without counts of tokens that can be"
        unsure = f" (with at most {self.unsure_usd:.4f} {why})" if self.unsure_usd else ""
        return f"{self.spent_usd:.4f} USD{unsure}"

    def _message(self, worst_usd: float) -> str:
        return (
            f"the budget of {self.limit_usd:g} USD is spent: {self.said()} went, and the next request could cost "
            f"{worst_usd:.4f}."
        )


class Meter:
    """One server's share in the command's budget.

    Args:
        price: None, or one that is unknown, counts the replies only.
    """

    def __init__(self, budget: Budget, price: Price) -> None:
        self.budget, self.price = budget, price

    async def count(
        self, messages: Sequence[Message], sampling: Mapping[str, Any], send: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """Send once the worst case fits, and count what the reply says was paid.

        An exception counts as nothing paid, unless its attribute `may_be_paid` says otherwise or the request was
        cancelled.

        Raises:
            BudgetSpentError: see `Budget.hold`.
        """
        worst = self.price.usd(*worst_tokens(messages, sampling)) or 0.0
        await self.budget.hold(worst)
        try:
            reply = await send()
        except BaseException as error:
            may_be_paid = getattr(error, "may_be_paid", not isinstance(error, Exception))
            self.budget.settle(worst, 0.0, worst if may_be_paid else 0.0)
            raise
        paid = self._paid_usd(reply)
        self.budget.settle(worst, paid or 0.0, worst if paid is None else 0.0)
        return reply

    def _paid_usd(self, reply: Reply) -> float | None:
        """Return 0 for an error status, which has no body; None for a reply without token counts."""
        if not reply.body:
            return 0.0
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        usd = self.price.usd(reply.prompt_tokens, reply.completion_tokens)
        self.budget.unpriced += usd is None
        return usd or 0.0


class Metered(Protocol):
    """A client of a server whose requests a meter counts."""

    meter: Meter | None


def meter(client: Metered | None, price: Price, budget: Budget) -> None:
    """Count all that the client's server is asked from now on into the budget; nothing is asked without a client."""
    if client is not None:
        client.meter = Meter(budget, price)


def worst_tokens(messages: Sequence[Message], sampling: Mapping[str, Any]) -> tuple[int, int]:
    """Return the most tokens that a request can cost: (input, output)."""
    size = sum(len(utf8(message["content"])) + TOKENS_BESIDE_A_MESSAGE for message in messages)
    return size + TOKENS_BESIDE_A_MESSAGE, reply_tokens(sampling) * int(sampling.get("n") or 1)


def reply_tokens(sampling: Mapping[str, Any]) -> int:
    """Return the most tokens that a request allows for its reply."""
    return int(sampling.get("max_completion_tokens") or sampling.get("max_tokens") or MOST_REPLY_TOKENS)
