"""`seft-bench judges agreement`: a judge's verdicts against human votes, read from files.

A row is a vote as in MT-Bench's human judgments: judge, model_a, model_b, question_id, turn, winner. For the judge, FastChat's own pairwise
judgments (`model_judgment/*_pair.jsonl`, both orders in a row) are read too. JSON Lines, gzipped or not.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.errors import InputError, unknown_name
from seft_bench.files import read_text

if TYPE_CHECKING:
    from seft_bench.stats.agreement import Agreement, Cell, Vote
    from seft_bench.stats.intervals import Interval

Row = Mapping[str, Any]
MIN_COVERAGE = 0.98

_VOTE_KEYS = {"judge", "model_a", "model_b", "question_id", "turn", "winner"}
_GAME_KEYS = {"judge", "model_1", "model_2", "question_id", "turn", "g1_winner", "g2_winner"}
_WINNERS = ("model_a", "model_b", "tie", "tie (inconsistent)", "error")


@dataclass(frozen=True)
class Report:
    """What the command shows.

    Attributes:
        human_votes: votes of the chosen raters on the chosen turns.
        not_asked: those of them whose comparison the judge's file does not hold.
        failed: those whose comparison the judge was asked for without a verdict.
        coverage: share with a verdict among the votes that the judge was asked for.
    """

    judge: str
    raters: str
    human_votes: int
    not_asked: int
    failed: int
    coverage: float
    withheld: bool
    cells: tuple[Cell, ...]


def measure_agreement(votes: Path, judge_votes: Path, *, judge: str | None = None, raters: str = "expert", turn: int | None = None) -> Report:
    """Agreement of a judge with humans, and of the humans among themselves.

    Args:
        judge: the judge's name, needed where `judge_votes` holds several.
        raters: the humans whose names begin so; "" takes all.
        turn: only this turn; None: each turn that the humans voted on.

    Raises:
        InputError: a missing file, a broken row, or nothing in common.
    """
    from seft_bench.stats.agreement import compare

    humans = _of_turn(_of_raters(_read(votes, "human votes"), raters, votes), turn, votes)
    name, rows = _of_judge(_read(judge_votes, "the judge's votes"), judge, judge_votes)
    asked = {row.vote.comparison for row in rows}
    verdicts = {row.vote.comparison: row.vote for row in rows if not row.failed}
    wanted = [vote for vote in humans if vote.comparison in asked]
    if not wanted:
        raise _nothing_in_common(humans, rows, votes, judge_votes)
    failed = sum(vote.comparison not in verdicts for vote in wanted)
    coverage = 1 - failed / len(wanted)
    cells = tuple(compare(humans, list(verdicts.values())))
    return Report(name, raters, len(humans), len(humans) - len(wanted), failed, coverage, coverage < MIN_COVERAGE, cells)


def report_row(report: Report) -> dict[str, Any]:
    """The JSON object that `--json` prints."""
    return dataclasses.asdict(report)


def report_table(report: Report) -> str:
    """Lines with tabs between the columns: the judge's agreement, the humans' own, and the difference, with 95 % intervals."""
    header = "\t".join(("turn", "ties", f"{report.judge} and humans", "humans among themselves", "difference"))
    return "\n".join([header, *(_line(cell) for cell in report.cells)])


def notes_of(report: Report) -> list[str]:
    """What a reader of the figures should know, a line each."""
    who = f"raters whose name begins with {report.raters!r}" if report.raters else "all raters"
    left_out = f"left out: {report.not_asked} that the judge was not asked for, {report.failed} without a verdict"
    notes = [f"{report.human_votes} human votes ({who}); {left_out}. Intervals: 95 %, over questions."]
    if report.withheld:
        reached = f"{report.coverage:.1%} of the votes that the judge was asked for have a verdict, at least {MIN_COVERAGE:.0%} are needed"
        notes.append(f"WITHHELD {report.judge}: {reached}. Judge the failed comparisons again, then run this command again.")
    return notes


def _line(cell: Cell) -> str:
    difference = "-" if cell.difference is None else _figure(cell.difference, "+.3f")
    return "\t".join((str(cell.turn), "with" if cell.ties else "without", _shown(cell.judge), _shown(cell.humans), difference))


def _shown(figure: Agreement | None) -> str:
    return "-" if figure is None else f"{_figure(figure.interval, '.3f')} {figure.agreed}/{figure.n}"


def _figure(interval: Interval, form: str) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:{form}}"
    return f"{interval.mean:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


# Which votes count


def _of_raters(rows: Sequence[_Read], raters: str, path: Path) -> list[Vote]:
    """The raters' votes, the last one where a rater voted twice on one comparison; a failed row is no vote."""
    from seft_bench.stats.agreement import last_votes

    votes = [row.vote for row in rows if not row.failed]
    chosen = last_votes(vote for vote in votes if vote.rater.startswith(raters))
    if not chosen:
        known = _some({vote.rater for vote in votes})
        raise InputError(f"{path} has no vote of a rater whose name begins with {raters!r}; it has votes of {known}. Choose with --raters ('' takes all)")
    return chosen


def _of_turn(votes: list[Vote], turn: int | None, path: Path) -> list[Vote]:
    chosen = [vote for vote in votes if turn in (None, vote.turn)]
    if not chosen:
        known = ", ".join(str(number) for number in sorted({vote.turn for vote in votes}))
        raise InputError(f"{path} has no votes of these raters on turn {turn}; it has turns {known} (--turn)")
    return chosen


def _of_judge(rows: Sequence[_Read], judge: str | None, path: Path) -> tuple[str, list[_Read]]:
    names = sorted({row.vote.rater for row in rows})
    if judge is None and len(names) > 1:
        raise InputError(f"{path} has votes of {len(names)} judges: {_some(names)}; name one with --judge")
    name = names[0] if judge is None else judge
    if name not in names:
        raise unknown_name("judge", name, names, f"Looked in {path}.")
    return name, [row for row in rows if row.vote.rater == name]


def _nothing_in_common(humans: Sequence[Vote], rows: Sequence[_Read], votes: Path, judge_votes: Path) -> InputError:
    humans_models = {model for vote in humans for model in vote.models}
    judges_models = {model for row in rows for model in row.vote.models}
    return InputError(
        f"{judge_votes} judges nothing that the {len(humans)} human votes of {votes} are about (same question, two models and turn). "
        f"The humans compared {_some(humans_models)}; the judge {_some(judges_models)}. Ask it for these pairs, or name other votes with --votes"
    )


def _some(names: Iterable[str], limit: int = 8) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:limit]) + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "") or "nobody"


# Reading


@dataclass(frozen=True)
class _Read:
    """A row of a file; of a failed one only the comparison counts."""

    vote: Vote
    failed: bool


def _read(path: Path, what: str) -> list[_Read]:
    rows = []
    for number, line in enumerate(_text(path, what).split("\n"), start=1):
        if line.strip():
            try:
                rows.append(_row(json.loads(line)))
            except ValueError as error:
                raise InputError(f"file of {what} {path}, line {number}: {error}: {line[:80]!r}") from None
    if not rows:
        raise InputError(f"file of {what} has no rows: {path}")
    return rows


def _text(path: Path, what: str) -> str:
    if path.suffix != ".gz" or not path.is_file():
        return read_text(path, f"file of {what}")
    try:
        return gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"file of {what} is not gzipped UTF-8 text: {path} ({error})") from None


def _row(row: Any) -> _Read:
    """A vote, or both orders of FastChat's pairwise judgments.

    Raises:
        ValueError: what is wrong with the row.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is expected, this is {type(row).__name__}")
    if row.keys() >= _GAME_KEYS:
        return _vote(row, str(row["model_1"]), str(row["model_2"]), _both_orders(str(row["g1_winner"]), str(row["g2_winner"])))
    missing = sorted(_VOTE_KEYS - row.keys())
    if missing:
        raise ValueError(f"key {', '.join(missing)} is missing; a vote has {', '.join(sorted(_VOTE_KEYS))}")
    return _vote(row, str(row["model_a"]), str(row["model_b"]), str(row["winner"]))


def _both_orders(first: str, second: str) -> str:
    """FastChat's rule: the winner of both orders, else a tie."""
    if "error" in (first, second):
        return "error"
    winner = first if first == second else "tie (inconsistent)"
    return {"model_1": "model_a", "model_2": "model_b"}.get(winner, winner)


def _vote(row: Row, model_a: str, model_b: str, winner: str) -> _Read:
    from seft_bench.stats.agreement import Vote

    if winner not in _WINNERS:
        raise ValueError(f"winner is {winner!r}; allowed are {', '.join(_WINNERS)}")
    if model_a == model_b:
        raise ValueError(f"{model_a} is compared with itself")
    turn = row["turn"]
    if isinstance(turn, bool) or not isinstance(turn, int):
        raise ValueError(f"turn is {turn!r}; a number is expected")
    low, high = sorted((model_a, model_b))
    preferred = {"model_a": model_a, "model_b": model_b}.get(winner)
    return _Read(Vote(_rater(row["judge"]), str(row["question_id"]), turn, (low, high), preferred), winner == "error")


def _rater(judge: Any) -> str:
    """FastChat stores the judge as [model, prompt]."""
    return str(judge[0] if isinstance(judge, list) and judge else judge)
