"""FastChat's pairwise files, model_judgment/<judge>_pair.jsonl (fschat 0.2.36, `play_a_match_pair`).

One row is a comparison with both of its games.

The candidate is model_1 and the baseline model_2, as in FastChat's `make_match`; an imported row keeps its own two
places. Game 1 shows model_1 first, game 2 model_2. A row that two of the exported models share is written once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from seft_bench.exchange import fastchat
from seft_bench.exchange.records import (
    OFFICIAL,
    OURS,
    Export,
    Recorded,
    json_row,
    left_out,
    name_notes,
    our_column,
    own_fields,
    read_our_column,
    requests_of,
    safe_names,
    standing,
    unscored_note,
)
from seft_bench.records import JudgeRequest, Judgment, Question, Status
from seft_bench.suites import Suite

KIND = "mtbench-pairwise"
_ORDERS = (True, False)
_OPPONENT, _PLACE, _PREFERENCE = "compared_with", "candidate", "preference"
_OWN_FIELDS = (
    "question_id",
    "model_1",
    "model_2",
    "g1_winner",
    "g2_winner",
    "g1_judgment",
    "g2_judgment",
    "turn",
    OURS,
)
_VERDICTS = (1.0, 1.5, 2.0)


def files(recorded: Sequence[Recorded], suite: Suite) -> Export:
    """One file of answers a model, one file of comparisons a judge with those of every model."""
    export, questions = Export(), suite.questions()
    models = safe_names(item.model for item in recorded)
    judges = safe_names(judge for item in recorded for judge in item.judgments)
    lines: dict[str, dict[str, None]] = {judge: {} for judge in judges}
    for item in recorded:
        if item.answers:
            path = fastchat.FOLDER / "model_answer" / f"{models[item.model]}.jsonl"
            export.files[path] = "".join(json_row(row) for row in fastchat.answer_rows(item, questions))
        for judge, rows in item.judgments.items():
            made = _comparisons(item, judge, rows, questions, suite, export)
            export.opponents |= {row[place] for row in made for place in ("model_1", "model_2")} - {item.model}
            lines[judge] |= dict.fromkeys(json_row(row) for row in made)
            if (result := suite.score(item.model, questions, item.answers, rows)).withheld:
                export.withheld.append(result)
    export.files |= {
        fastchat.FOLDER / "model_judgment" / f"{judges[judge]}_pair.jsonl": "".join(rows)
        for judge, rows in lines.items()
    }
    export.notes += name_notes(models) + name_notes(judges)
    return export


def _comparisons(
    item: Recorded, judge: str, rows: Sequence[Judgment], questions: Sequence[Question], suite: Suite, export: Export
) -> list[dict[str, Any]]:
    """Return the rows in the suite's order: of each order the last valid verdict, else its last failure.

    FastChat counts every row, so a comparison has one.
    """
    requests = requests_of(suite, item.answers)
    keys = [
        (turn, [_key(question, turn, first) for first in _ORDERS])
        for question in questions
        for turn in range(1, len(question.turns) + 1)
    ]
    kept = standing(
        rows, {key: requests[key].answer_hash if key in requests else "" for _, both in keys for key in both}
    )
    what = f"{item.model}, judge {judge}"
    export.notes += left_out(rows, kept, what)
    last = {key: group[-1] for key, group in kept.items()}
    export.notes += unscored_note(
        last.values(), what, 'by the winner "error"; show_result leaves the comparison out without a word'
    )
    baseline = suite.baseline_name
    games = [(turn, [last.get(key) for key in both], [requests.get(key) for key in both]) for turn, both in keys]
    halves = sum(both.count(None) == 1 for _, both, _ in games)
    export.notes += [
        f"{what}: {halves} comparisons were judged in one order only; the other has the winner error"
    ] * bool(halves)
    return [_row(turn, both, asked, item.model, judge, baseline) for turn, both, asked in games if any(both)]


def _key(question: Question, turn: int, candidate_first: bool) -> str:
    return JudgeRequest("preference", question, turn, (), (), candidate_first).key


def _row(
    turn: int,
    both: Sequence[Judgment | None],
    asked: Sequence[JudgeRequest | None],
    model: str,
    judge: str,
    baseline: str,
) -> dict[str, Any]:
    """One comparison; `both` and `asked` are of the candidate shown first, then second.

    What an imported row said itself is said again.
    """
    known = next(row for row in both if row is not None)
    official = known.details.get(OFFICIAL)
    recorded: dict[str, Any] = dict(official) if isinstance(official, dict) else {}
    place = "model_2" if recorded.pop(_PLACE, "model_1") == "model_2" else "model_1"
    games = list(zip(both, asked, strict=True)) if place == "model_1" else list(zip(both, asked, strict=True))[::-1]
    prompts = [
        "" if recorded or row is None or request is None else fastchat.user_prompt(row, request)
        for row, request in games
    ]
    texts = [_text(row) for row, _ in games]
    pair = [model, str(known.details.get(_OPPONENT, baseline))]
    made = {
        "question_id": fastchat.official_id(known.question_id),
        "model_1": pair[place == "model_2"],
        "model_2": pair[place == "model_1"],
        "g1_winner": _winner(games[0][0], place),
        "g2_winner": _winner(games[1][0], place),
        "judge": [judge, str(known.details.get("template", "none"))],
        "g1_user_prompt": prompts[0],
        "g1_judgment": texts[0],
        "g2_user_prompt": prompts[1],
        "g2_judgment": texts[1],
        "turn": turn,
        "tstamp": max(fastchat.seconds(row.judged_at) for row in both if row is not None),
    }
    said = {
        game: part
        for game, (row, _), text in zip(("g1", "g2"), games, texts, strict=True)
        if row and (part := _beyond(row, text, place))
    }
    return (
        made
        | {key: value for key, value in recorded.items() if key not in _OWN_FIELDS}
        | ({OURS: said} if said else {})
    )


def _text(row: Judgment | None) -> str:
    return fastchat.ERROR if row is None or row.status in ("api_error", "over_length") else row.raw


def _winner(row: Judgment | None, place: str) -> str:
    """As FastChat writes it: judges with graded preferences decide by their side of 1.5."""
    if row is None or row.preference is None:
        return "error"
    if row.preference == 1.5:
        return "tie"
    return place if row.preference > 1.5 else _other(place)


def _other(place: str) -> str:
    return "model_2" if place == "model_1" else "model_1"


def _beyond(row: Judgment, text: str, place: str) -> Any:
    """Return what a game's fields do not say: our status, parts of the verdict, a graded preference (for model_1)."""
    parts = {key: value for key, value in row.details.items() if key != _OPPONENT}
    graded = (
        {} if row.preference is None or row.preference in _VERDICTS else {_PREFERENCE: _turned(row.preference, place)}
    )
    return our_column(dataclasses.replace(row, details=parts | graded), _derived_status(text, row.preference)).get(OURS)


def _turned(preference: float, place: str) -> float:
    """A preference for model_1 as one for the model at `place`, or back; exact, as both lie in [1, 2]."""
    return preference if place == "model_1" else 3.0 - preference


def _derived_status(text: str, preference: float | None) -> Status:
    if preference is not None:
        return "ok"
    return "api_error" if text == fastchat.ERROR else "parse_error"


def whole(judgment: Judgment, row: Mapping[str, Any]) -> Judgment:
    """One of a row's four judgments, with what else the row says, under `OFFICIAL` or out of our own column."""
    place = "model_1" if judgment.model_id == str(row["model_1"]) else "model_2"
    game = "g1" if (place == "model_1") == (judgment.order == "candidate_first") else "g2"
    column = row.get(OURS)
    status, details = read_our_column({OURS: column.get(game)} if isinstance(column, dict) else {}, judgment.status)
    graded = details.pop(_PREFERENCE, None)
    official = own_fields(row, _OWN_FIELDS) | {_PLACE: place}
    made = dataclasses.replace(judgment, status=status, details={**judgment.details, **details, OFFICIAL: official})
    return dataclasses.replace(made, preference=_turned(graded, place)) if _fits(graded, judgment, place) else made


def _fits(graded: Any, judgment: Judgment, place: str) -> bool:
    """Return whether it is a graded preference for the row's own winner.

    One that contradicts it is not believed: files come from anywhere.
    """
    if not isinstance(graded, float) or not 1 < graded < 2 or judgment.preference is None:
        return False
    return _winner(dataclasses.replace(judgment, preference=_turned(graded, place)), place) == _winner(judgment, place)
