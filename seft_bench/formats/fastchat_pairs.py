"""FastChat's pairwise judgments (`model_judgment/*_pair.jsonl`): a row is one comparison in both orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seft_bench.records import JudgeRequest, Judgment, Question, Status

SIGNS = frozenset({"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn"})
"""The keys by which the format is told."""

_API_ERROR = "$ERROR$"
_WINNERS = ("model_1", "model_2", "tie", "error")


def read_pair(row: Mapping[str, Any]) -> list[Judgment]:
    """Read four judgments: each model as the candidate against the other, in both orders.

    In game 1 model_1 is shown first, in game 2 model_2.

    `details["compared_with"]` names the other model; the file does not tell the judged texts apart from the prompt.

    Raises:
        ValueError: a winner that FastChat does not write, or a model against itself.
    """
    if row["model_1"] == row["model_2"]:
        raise ValueError(f"{row['model_1']} is compared with itself")
    return [_judgment(row, candidate, game) for candidate in ("model_1", "model_2") for game in ("g1", "g2")]


def _judgment(row: Mapping[str, Any], candidate: str, game: str) -> Judgment:
    winner, raw = row[f"{game}_winner"], str(row.get(f"{game}_judgment", ""))
    if winner not in _WINNERS:
        raise ValueError(f"{game}_winner is {winner!r}; allowed are {', '.join(_WINNERS)}")
    first = (candidate == "model_1") == (game == "g1")
    question = Question("mtbench", str(row["question_id"]), "", ())
    turn, judge = whole_number(row["turn"]), row.get("judge", "")
    return Judgment(
        suite="mtbench",
        question_id=question.id,
        model_id=str(row[candidate]),
        turn=turn,
        key=JudgeRequest("preference", question, turn, (), (), first).key,
        answer_hash="",
        judge_id=str(judge[0] if isinstance(judge, list) and judge else judge),
        requested_model="",
        returned_model="",
        prompt_hash="",
        order="candidate_first" if first else "candidate_second",
        status=_status(winner, raw),
        preference=None if winner == "error" else 1.5 if winner == "tie" else 2.0 if winner == candidate else 1.0,
        raw=raw,
        details={"compared_with": str(row["model_2" if candidate == "model_1" else "model_1"])},
    )


def whole_number(value: Any) -> int:
    """Return the number of a turn, also from text.

    Raises:
        ValueError: it is none; true and 1.5 are none.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"a whole number is expected, this is {value!r}")
    return int(value)


def _status(winner: str, raw: str) -> Status:
    if winner != "error":
        return "ok"
    return "api_error" if raw == _API_ERROR else "parse_error"
