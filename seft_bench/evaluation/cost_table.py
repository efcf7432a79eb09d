"""An estimate as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from seft_bench.evaluation.cost_estimate import ASSUMPTIONS, Estimate, Line

COLUMNS = (
    "work",
    "model",
    "suite",
    "decoding",
    "by",
    "wanted",
    "at hand",
    "settled",
    "stored",
    "to ask",
    "tokens in",
    "tokens out",
    "USD",
)


def cost_row(found: Estimate) -> dict[str, Any]:
    """An estimate, JSON-ready."""
    low, high = found.usd
    lines = [
        {**{item.name: getattr(line, item.name) for item in dataclasses.fields(line)}, "price": line.price.as_row()}
        for line in found.lines
    ]
    total = {"low_usd": low, "high_usd": high, "unknown_price_of": sorted({line.asked_model for line in found.unknown})}
    return {"lines": lines, "total": total, "assumptions": ASSUMPTIONS}


def cost_text(found: Estimate) -> str:
    """A table in columns, then prices, total and assumptions."""
    rows = [COLUMNS, *[_cells(line) for line in found.lines]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*table, *_price_lines(found), total_line(found), ASSUMPTIONS])


def _cells(line: Line) -> tuple[str, ...]:
    stored = "?" if line.stored is None else str(line.stored)
    counts = (str(line.wanted), str(line.at_hand), str(line.settled), stored, str(line.to_ask))
    tokens = (_span(*line.input_tokens), _span(*line.output_tokens))
    usd = "unknown" if line.usd is None and line.to_ask else _usd_span(*(line.usd or (0.0, 0.0)))
    return (line.work, line.model, line.suite, line.decoding, line.by, *counts, *tokens, usd)


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def _usd_span(low: float, high: float) -> str:
    return f"{low:.2f}-{high:.2f}" if high else "0"


def _price_lines(found: Estimate) -> list[str]:
    """Each price that holds, once."""
    said: dict[str, None] = {}
    for line in found.lines:
        price = line.price
        if line.asked_model and line.to_ask and price.known:
            day = f"as of {price.as_of}" if price.as_of else "without a date"
            figures = (
                f"{price.input_usd_per_million_tokens:g} USD in, {price.output_usd_per_million_tokens:g} USD out a "
                "million tokens"
            )
            said[f"price of {line.asked_model}: {figures}, {day}, from {price.source}"] = None
    return list(said)


def total_line(found: Estimate) -> str:
    """The total, and what it leaves out."""
    low, high = found.usd
    total = f"total: {low:.2f} to {high:.2f} USD" if high else "total: 0 USD"
    unknown = dict.fromkeys(f"unknown: {line.price.source}, for {line.to_ask} requests" for line in found.unknown)
    return "; ".join([total, *unknown]) if high or not unknown else "; ".join(unknown)
