"""The cost of judging a matrix, estimated before any of its answers is there: one line a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seft_bench.errors import InputError
from seft_bench.evaluation.cost_estimate import Line, tokens_of_one_model
from seft_bench.inference.prices import NO_SERVER, Price
from seft_bench.judges import Judge
from seft_bench.suites import Suite


@dataclass(frozen=True)
class PerVerdict:
    """The size and price of a judge's verdict, on average over its suites, for answers of a typical length.

    Attributes:
        asked_model: the model that is paid, "" where no server is asked.
        input_tokens: (about, at most).
        output_tokens: (typical, at most).
    """

    asked_model: str
    price: Price
    input_tokens: tuple[float, float] = (0.0, 0.0)
    output_tokens: tuple[float, float] = (0.0, 0.0)

    @property
    def asks_a_server(self) -> bool:
        return bool(self.asked_model)

    def line(self, judge: str, matrix: str, wanted: int, at_hand: int) -> Line:
        """The estimate for so many verdicts."""
        to_ask = wanted - at_hand if self.asks_a_server else 0
        (about, most_in), (typical, most_out) = self.input_tokens, self.output_tokens
        low = self.price.usd(about * to_ask, typical * to_ask)
        high = self.price.usd(most_in * to_ask, most_out * to_ask)
        tokens = (round(about * to_ask), round(most_in * to_ask)), (round(typical * to_ask), round(most_out * to_ask))
        usd = None if low is None or high is None else (low, high)
        where, counts = ("judge", judge, matrix, "all suites", "all"), (wanted, at_hand, 0, None, to_ask)
        return Line(*where, self.asked_model, *counts, *tokens, self.price, usd)


def per_verdict(suites: Sequence[tuple[Suite, int]], judge: Judge) -> PerVerdict:
    """Average over the suites that the judge is to judge.

    Args:
        suites: each with the verdicts that one answered model makes on it.
    """
    if judge.client is None:
        return PerVerdict("", NO_SERVER)
    verdicts = sum(count for _, count in suites)
    try:
        parts = [tokens_of_one_model(suite, judge) for suite, _ in suites]
    except InputError as error:  # the judge's own check says it before anything is trained
        unknown = Price(None, None, None, f"prompts of {judge.id} cannot be rendered: {error}")
        return PerVerdict(judge.client.model, unknown)
    about, most_in, typical, most_out = (sum(column) / verdicts for column in zip(*parts, strict=True))
    return PerVerdict(judge.client.model, judge.price, (about, most_in), (typical, most_out))
