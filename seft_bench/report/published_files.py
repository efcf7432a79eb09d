"""Published figures from files: shipped or own YAML, and leaderboards that `seft-bench import` took over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date as day
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from seft_bench.config import Strict, load_yaml, shipped
from seft_bench.errors import InputError, unknown_name
from seft_bench.files import read_json
from seft_bench.report.published import PublishedSet

Metric = Literal["lc_win_rate", "win_rate", "score", "avg_length"]
_IMPORTED_KEYS = {"length_controlled_winrate": "lc_win_rate", "win_rate": "win_rate", "avg_length": "avg_length"}
"""Column of alpaca_eval's leaderboard -> our metric."""


class PublishedFigure(Strict):
    """One method or model."""

    name: str = Field(min_length=1)
    metrics: dict[Metric, float] = Field(min_length=1)


class PublishedSetConfig(Strict):
    """Figures of one source under one set of conditions; nothing may be left unsaid."""

    suite: str = Field(min_length=1)
    base: str = Field(min_length=1, description="base model that all of them were trained from")
    judge: str = Field(min_length=1)
    conditions: str = Field(min_length=1, description="data, decoding, versions, seeds")
    source: str = Field(min_length=1, description="paper and address")
    date: str = Field(pattern=r"^\d{4}(-\d{2}){0,2}$", description="of the source: 2024, 2024-05 or 2024-05-23")
    figures: list[PublishedFigure] = Field(min_length=1)

    @field_validator("date", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """YAML reads 2024 as a number and 2024-05-23 as a date."""
        return str(value) if isinstance(value, int | day) else value


class PublishedConfig(Strict):
    """A file of published figures."""

    name: str
    description: str = ""
    sets: list[PublishedSetConfig] = Field(min_length=1)


def load_published(name: str) -> list[PublishedSet]:
    """A shipped file of published figures by its name, or a YAML file.

    Raises:
        InputError: no such file, or one that does not say all that it must.
    """
    known = shipped("published")
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise unknown_name("published figures", name, known, "A file of your own is named by its file, NAME.yaml.")
    config: PublishedConfig = load_yaml(known.get(name, Path(name)), PublishedConfig)
    return [_of_config(item) for item in config.sets]


def _of_config(item: PublishedSetConfig) -> PublishedSet:
    figures = [(figure.name, {str(key): value for key, value in figure.metrics.items()}) for figure in item.figures]
    return PublishedSet(item.suite, item.base, item.judge, item.conditions, item.source, item.date, figures)


def imported_sets(results: Path) -> list[PublishedSet]:
    """The tables below results/published/, in the order of their names.

    Raises:
        InputError: a file there that no import wrote.
    """
    return [_of_import(path) for path in sorted((results / "published").glob("*.json"))]


def _of_import(path: Path) -> PublishedSet:
    table = read_json(path, "imported leaderboard")
    try:
        figures = [(str(row["model"]), _metrics(row)) for row in table["figures"]]
        return PublishedSet(
            str(table["suite"]),
            "",
            str(table["judge"]),
            "",
            f"imported from {table['source']}",
            str(table["imported_at"])[:10],
            figures,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is no leaderboard that `seft-bench import` wrote ({type(error).__name__}: {error}). Delete it, or "
            "import it again."
        ) from None


def _metrics(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {ours: row[theirs] for theirs, ours in _IMPORTED_KEYS.items() if isinstance(row.get(theirs), int | float)}
