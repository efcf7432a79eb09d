"""Reading votes: humans' and judges', and the answers that a file of votes may hold.

A row is a vote as in MT-Bench's human judgments: judge, model_a, model_b, question_id, turn, winner. FastChat's own
pairwise judgments (`model_judgment/*_pair.jsonl`, both orders in a row) are read too. JSON Lines, gzipped or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.errors import InputError
from seft_bench.files import parse_line, read_text
from seft_bench.records import Answer, Row

if TYPE_CHECKING:
    from seft_bench.stats.agreement import Vote
    from seft_bench.stats.judge_bias import Game

_VOTE_KEYS = {"judge", "model_a", "model_b", "question_id", "turn", "winner"}
_GAME_KEYS = {"judge", "model_1", "model_2", "question_id", "turn", "g1_winner", "g2_winner"}
_WINNERS = ("model_a", "model_b", "tie", "tie (inconsistent)", "error")


@dataclass(frozen=True)
class Ballot:
    """A row of a file; of a failed one only the comparison counts.

    `game`: both orders' verdicts, where the row holds them.
    """

    vote: Vote
    failed: bool
    game: Game | None = None


def read_votes(path: Path, what: str) -> list[Ballot]:
    """Every row of a file of votes; `what` names it in messages.

    Raises:
        InputError: a missing or empty file, or a broken row, with its line.
    """
    ballots = []
    for number, row in _rows(path, what):
        try:
            ballots.append(_ballot(row))
        except ValueError as error:
            raise InputError(f"file of {what} {path}, line {number}: {error}: {str(row)[:80]!r}") from None
    if not ballots:
        raise InputError(f"file of {what} has no rows: {path}")
    return ballots


def answers_in_votes(path: Path) -> list[Answer]:
    """Return the voted answers, if the rows hold the conversations, as the data set on the hub does; else []."""
    found: dict[tuple[str, str], Answer] = {}
    for _, row in _rows(path, "votes"):
        for side in ("a", "b"):
            messages = row.get(f"conversation_{side}") if isinstance(row, dict) else None
            turns = tuple(_assistant_texts(messages))
            if turns:
                answer = Answer("mtbench", str(row["question_id"]), str(row[f"model_{side}"]), turns)
                found[answer.model_id, answer.question_id] = answer
    return list(found.values())


def _assistant_texts(messages: Any) -> Iterator[str]:
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "assistant" and isinstance(message.get("content"), str):
            yield message["content"]


def _rows(path: Path, what: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_text(path, f"file of {what}").split("\n"), start=1):
        if line.strip():
            yield number, parse_line(line, path, number, f"file of {what}")


def _ballot(row: Any) -> Ballot:
    """Read a vote, or both orders of FastChat's pairwise judgments.

    Raises:
        ValueError: what is wrong with the row.
    """
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is expected, this is {type(row).__name__}")
    if row.keys() >= _GAME_KEYS:
        return _game_ballot(
            row, str(row["model_1"]), str(row["model_2"]), (str(row["g1_winner"]), str(row["g2_winner"]))
        )
    missing = sorted(_VOTE_KEYS - row.keys())
    if missing:
        raise ValueError(f"key {', '.join(missing)} is missing; a vote has {', '.join(sorted(_VOTE_KEYS))}")
    return _vote_ballot(row, str(row["model_a"]), str(row["model_b"]), str(row["winner"]))


def _game_ballot(row: Row, model_1: str, model_2: str, winners: tuple[str, str]) -> Ballot:
    """FastChat: model_1 is shown first in the first game; the winner of both is the winner, else it is a tie."""
    from seft_bench.stats.judge_bias import Game

    as_vote = {"model_1": "model_a", "model_2": "model_b"}
    merged = "error" if "error" in winners else winners[0] if winners[0] == winners[1] else "tie (inconsistent)"
    ballot = _vote_ballot(row, model_1, model_2, as_vote.get(merged, merged))
    if ballot.failed:
        return ballot
    if wrong := set(winners) - {"model_1", "model_2", "tie"}:
        raise ValueError(f"winner of a game is {sorted(wrong)[0]!r}; allowed are model_1, model_2, tie, error")
    named = {"model_1": model_1, "model_2": model_2}
    in_order = winners if ballot.vote.models[0] == model_1 else winners[::-1]
    game = Game(
        ballot.vote.question_id, ballot.vote.turn, ballot.vote.models, (named.get(in_order[0]), named.get(in_order[1]))
    )
    return Ballot(ballot.vote, False, game)


def _vote_ballot(row: Row, model_a: str, model_b: str, winner: str) -> Ballot:
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
    return Ballot(Vote(_rater(row["judge"]), str(row["question_id"]), turn, (low, high), preferred), winner == "error")


def _rater(judge: Any) -> str:
    """FastChat stores the judge as [model, prompt]."""
    return str(judge[0] if isinstance(judge, list) and judge else judge)
