"""Prices of tokens: the price table, a judge's own prices, and which of the two holds.

A price is known with its day and its source, or it is unknown; it is never guessed. The first that says something
holds: the judge's YAML, the file that SEFT_BENCH_PRICES names, the shipped `eval_configs/prices.yaml`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from seft_bench.config import OpenAIJudgeConfig, ServerSettings, Strict, config_folder, load_yaml
from seft_bench.inference.addresses import address_of

VARIABLE = "SEFT_BENCH_PRICES"


class PriceRow(Strict):
    """One published price."""

    model: str
    server: str = Field(description="host (and port) of the base URL")
    input_usd_per_million_tokens: float | None = Field(ge=0)
    output_usd_per_million_tokens: float | None = Field(ge=0)
    as_of: date | None = Field(description="day on which the source was read")
    source: str = Field(description="address where the price stands")


class PriceTable(Strict):
    """A file of prices."""

    prices: list[PriceRow]


@dataclass(frozen=True, slots=True)
class Price:
    """The price that holds for a model on a server; None where a part is unknown.

    Attributes:
        as_of: the day of the source, None where it does not say.
        source: where the figures come from, or what was looked at in vain.
    """

    input_usd_per_million_tokens: float | None
    output_usd_per_million_tokens: float | None
    as_of: date | None
    source: str

    @property
    def known(self) -> bool:
        return self.input_usd_per_million_tokens is not None and self.output_usd_per_million_tokens is not None

    def usd(self, input_tokens: float, output_tokens: float) -> float | None:
        """Return the price of so many tokens; None if it is unknown."""
        if self.input_usd_per_million_tokens is None or self.output_usd_per_million_tokens is None:
            return None
        for_input = input_tokens * self.input_usd_per_million_tokens
        return (for_input + output_tokens * self.output_usd_per_million_tokens) / 1e6

    def as_row(self) -> dict[str, Any]:
        """Return the price as a JSON-ready row."""
        return {
            "input_usd_per_million_tokens": self.input_usd_per_million_tokens,
            "output_usd_per_million_tokens": self.output_usd_per_million_tokens,
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "source": self.source,
        }


NO_SERVER = Price(0.0, 0.0, None, "no server is asked")
UNKNOWN_PRICE = Price(None, None, None, "no price was given")


def judge_price(config: OpenAIJudgeConfig) -> Price:
    """Return the price of a judge: its YAML's if that gives one, else the table's."""
    return server_price(config, config.model, "the judge's YAML")


def server_price(config: ServerSettings, model: str, source: str) -> Price:
    """Return the price of a server's model: its YAML's if that gives one (`source`), else the table's."""
    for_input, for_output = config.input_usd_per_million_tokens, config.output_usd_per_million_tokens
    if for_input is not None or for_output is not None:
        return Price(for_input, for_output, config.price_date, source)
    return price_of(config.base_url, model)


def price_of(base_url: str, model: str) -> Price:
    """Return the tables' price of a model at a server.

    Raises:
        InputError: a table cannot be read, or has errors.
    """
    host = urlsplit(address_of(base_url).shown).netloc
    paths = table_paths()
    for row in (row for path in paths for row in read_table(path)):
        if row.model == model and row.server == host:
            return Price(row.input_usd_per_million_tokens, row.output_usd_per_million_tokens, row.as_of, row.source)
    return Price(None, None, None, f"no price of {model} at {host} in {' or '.join(path.name for path in paths)}")


def table_paths() -> list[Path]:
    """The user's table, if there is one, then the shipped one."""
    own = os.environ.get(VARIABLE)
    return [*([Path(own)] if own else []), config_folder() / "prices.yaml"]


def read_table(path: Path) -> Sequence[PriceRow]:
    table: PriceTable = load_yaml(path, PriceTable)
    return table.prices


def how_to_price(model: str) -> str:
    """Return what to do about an unknown price, for messages."""
    return (
        f"Give the price of {model}: `input_usd_per_million_tokens`, `output_usd_per_million_tokens` and `price_date` "
        f"in the judge's YAML (0 for a server of your own), or a row in a file that {VARIABLE} names, in the form of "
        "eval_configs/prices.yaml."
    )
