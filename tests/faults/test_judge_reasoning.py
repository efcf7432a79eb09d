"""What a judge thinks aloud is no verdict, by whatever templates it is asked; nor is a grade beyond the scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.files import write_jsonl
from seft_bench.records import JudgeRequest, Question
from tests.faults.asking import PAIR, Run
from tests.faults.chat_server import body_of, completion, serving

GRADE = JudgeRequest("grade", Question("mtbench", "1", "writing", ("Name a river.",)), 1, ("The Rhine.",))
TALK = JudgeRequest("preference", Question("mtbench", "1", "writing", ("A?", "B?")), 1, ("a",), ("b",))


@pytest.fixture(autouse=True)
def official_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts in the official form, in our words: they are told apart by their names and types only."""
    rows = [
        {"name": name, "type": name[: name.index("-")], "system_prompt": "Judge.", "prompt_template": "{question}"}
        for name in ("single-v1", "pair-v2")
    ]
    write_jsonl(tmp_path / "mt_bench" / "judge_prompts.jsonl", rows)
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(tmp_path))


@pytest.mark.parametrize("templates", ["official", "seft-bench"])
@pytest.mark.parametrize("thought", ["[THINK]{}[/THINK]", "<thinking>{}</thinking>", "<think>{}</think>"])
def test_a_served_judges_reasoning_is_no_verdict(templates: str, thought: str) -> None:
    said = thought.format("A form like [[3]], or [[A]].")
    with serving(body_of(completion(f"{said}Good. Rating: [[8]]"))) as server:
        (judgment,) = Run(server, templates=templates)(GRADE)
    assert (judgment.status, judgment.score) == ("ok", 8.0)
    with serving(body_of(completion(f"{said}So [[B]]"))) as server:
        (judgment,) = Run(server, templates="official")(TALK)
    assert (judgment.status, judgment.preference) == ("ok", 2.0)


@pytest.mark.parametrize("templates", ["official", "seft-bench"])
def test_a_grade_beyond_the_scale_is_a_parse_error(templates: str) -> None:
    with serving(body_of(completion("About 85 of 100. Rating: [[85]]"))) as server:
        (judgment,) = Run(server, templates=templates)(GRADE)
    assert (judgment.status, judgment.score) == ("parse_error", None)
    assert judgment.details.get("fastchat_score") == (85.0 if templates == "official" else None)


def test_several_samples_are_read_behind_their_reasoning() -> None:
    with serving(otherwise=body_of(completion("[THINK]M, or m?[/THINK]m"))) as server:
        (judgment,) = Run(server, preference_from="samples", samples=2)(PAIR)
    assert (judgment.status, judgment.preference) == ("ok", 2.0)
