"""FastChat's pairwise judgments (`model_judgment/*_pair.jsonl`): one row holds both orders of one comparison of two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seft_bench.errors import InputError
from seft_bench.records import JudgeRequest, Judgment, Question, Status

SIGNS = frozenset({"question_id", "model_1", "model_2", "g1_winner", "g2_winner", "turn"})
"""The keys by which the format is told."""

_API_ERROR = "$ERROR$"
_WINNERS = ("model_1", "model_2", "tie", "error")


def read_pair(row: Mapping[str, Any]) -> list[Judgment]:
    """Four judgments: each model as the candidate against the other, in both orders. In game 1 model_1 is shown first, in game 2 model_2.

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
    turn, judge = int(row["turn"]), row.get("judge", "")
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


def _status(winner: str, raw: str) -> Status:
    if winner != "error":
        return "ok"
    return "api_error" if raw == _API_ERROR else "parse_error"


def against_one_baseline(rows: Sequence[Judgment], baseline: str, named_by_user: bool) -> list[Judgment]:
    """The judgments against one baseline, of a file that may hold comparisons of many models.

    Without rows against the suite's own baseline, a file in which every model has one opponent is taken as it is.

    Raises:
        InputError: it cannot be told what to compare with.
    """
    opponents: dict[str, set[str]] = {}
    for row in rows:
        if "compared_with" in row.details:
            opponents.setdefault(row.model_id, set()).add(row.details["compared_with"])
    if not opponents:
        return list(rows)
    everyone = set().union(*opponents.values())
    if baseline in everyone:
        return [row for row in rows if row.details.get("compared_with", baseline) == baseline]
    if named_by_user or any(len(others) > 1 for others in opponents.values()):
        raise InputError(
            f"the judgments hold no comparison with {baseline}; they compare {', '.join(sorted(everyone))}. "
            "Name one of these as the baseline: --reference FILE (its answers)"
        )
    return list(rows)
