"""Values for fuzzing: any JSON, and rows that are right but for something; and rows of every format that are right."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from seft_bench.records import Answer, JudgeRequest, Judgment, Question, Result, text_hash, to_row

TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "",
        "\ud83d",
        "\x00",
        "\u202e[[9]]",
        "[[7]]",
        "Rating: [[-5]]",
        "$ERROR$",
        "<think>",
        "</think> [[3]]",
        "../..",
        "m",
    ]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**30), 1e308, -5, 0, 11, 1.0000001, True, float("inf"), float("nan")])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXTS, below, max_size=4),
    max_leaves=12,
)


@st.composite
def spoilt(draw: st.DrawFn, right: Sequence[Mapping[str, Any]]) -> Any:
    """Draw a right row with one to three of its values (or those below) replaced, taken away or put elsewhere."""
    row = copy.deepcopy(dict(draw(st.sampled_from(list(right)))))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = row
        while True:
            keys = sorted(place, key=str) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.integers(0, 4)):
                place[key] = draw(VALUES)
            else:
                del place[key]
            break
    return row


def holds(check: Any, values: st.SearchStrategy[Any], examples: int) -> int:
    """Check drawn values, the same ones at every run; return how many there were."""
    seen = 0

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(values)
    def each(value: Any) -> None:
        nonlocal seen
        seen += 1
        check(value)

    each()
    return seen


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write JSON Lines as foreign tools do: halves of pairs escaped, numbers that JSON has not."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Right rows


QUESTION = Question("talks", "q0", "", ("What is it?", "And why?"))


def judgment(question: int, score: float, model: str = "m") -> dict[str, Any]:
    """Make a row of ours: a grade of the first turn."""
    asked = JudgeRequest("grade", Question("talks", f"q{question}", "", ("What?",)), 1, (f"answer {question}",))
    return to_row(
        Judgment(
            suite="talks",
            question_id=asked.question.id,
            model_id=model,
            turn=1,
            key=asked.key,
            answer_hash=asked.answer_hash,
            judge_id="judge-1",
            requested_model="j",
            returned_model="j",
            prompt_hash="",
            order="single",
            status="ok",
            score=score,
            raw=f"[[{score}]]",
        )
    )


RIGHT: dict[str, list[dict[str, Any]]] = {
    "judgments": [judgment(index, float(index + 1)) for index in range(5)],
    "FastChat judgments": [
        {"question_id": 81 + index, "model": "m", "judge": ["gpt-4", "single-v1"], "user_prompt": "What?"}
        | {"judgment": f"Rating: [[{index + 1}]]", "score": index + 1, "turn": 1, "tstamp": 1.5}
        for index in range(5)
    ],
    "FastChat pairs": [
        {"question_id": 81 + index, "model_1": "m", "model_2": "n", "g1_winner": "model_1", "g2_winner": "tie"}
        | {"judge": ["gpt-4", "pair-v2"], "turn": 1, "g1_judgment": "[[A]]", "g2_judgment": "[[C]]"}
        for index in range(5)
    ],
    "annotations": [
        {"instruction": f"What is {index}?", "output_1": "b", "output_2": "m", "generator_2": "m"}
        | {"preference": 1.0 + index / 4, "annotator": "a", "raw_completion": {"message": {"content": "m"}}}
        for index in range(5)
    ],
    "answers": [
        to_row(Answer("talks", f"q{index}", "m", ("one", "two"), finish_reasons=("stop", "stop"))) for index in range(5)
    ],
    "outputs": [{"instruction": f"What is {index}?", "output": "o", "generator": "m"} for index in range(5)],
    "FastChat answers": [
        {"question_id": 81 + index, "model_id": "m", "choices": [{"index": 0, "turns": ["one", "two"]}]}
        for index in range(5)
    ],
    "votes": [
        {"question_id": 81 + index, "model_a": "m", "model_b": "n", "winner": "model_a", "judge": "expert_1", "turn": 1}
        for index in range(5)
    ],
}

RESULT = json.loads(
    json.dumps(
        to_row(
            Result(
                suite="talks",
                model="m",
                metrics={"score": 7.0, "low": 6.5, "high": 7.5, "se": 0.2, "turn_1": 7.0},
                n=5,
                n_scored=5,
                n_unscored=0,
                coverage=1.0,
                withheld=False,
                judge_id="judge-1",
                statuses={"ok": 5},
                per_question={f"q{index}": 7.0 for index in range(5)},
            )
        )
    )
)
HASH = text_hash("answer 0")
