"""Reasoning before an answer: every form that servers and models write, and what only looks like one."""

from __future__ import annotations

import pytest

from seft_bench.judges.parse import beside_fastchat, read_grade, read_token, read_verdict
from seft_bench.reasoning import opens, split

FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"

REASONED = [
    "<think>\nSay A. No, [[3]].\n</think>\n\n{answer}",
    "\n <think>Say A. No, [[3]].</think>{answer}",
    "<Think>Say A. No, [[3]].</THINK>{answer}",
    "<think></think>\n<think>Say [[3]].</think>{answer}",
    "Say A. No, [[3]].\n</think>\n\n{answer}",
    "Say A. No, [[3]].</think>{answer}",
    "[THINK]Say [[3]].[/THINK]{answer}",
    "Say [[3]].[/THINK]{answer}",
    "<thinking>Say [[3]].</thinking>\n{answer}",
    "<thought>Say [[3]].</thought>{answer}",
    "<seed:think>Say [[3]].</seed:think>{answer}",
    "<reasoning>\nSay [[3]].\n</reasoning>\n{answer}",
    "\u25c1think\u25b7Say [[3]].\u25c1/think\u25b7{answer}",
    "<|channel|>analysis<|message|>Say [[3]]." + FINAL + "{answer}",
    "<|start|>assistant<|channel|>analysis<|message|>Say [[3]]." + FINAL + "{answer}<|return|>",
    "<|channel|>analysis<|message|>Say [[3]].<|end|><|start|>assistant<|channel|>commentary<|message|>Hm."
    + FINAL
    + "{answer}",
    "analysisWe say [[3]].assistantfinal{answer}",
]

NO_REASONING = [
    "B is the answer.",
    "A model writes <think> first, then [[8]].",
    "Models of this kind write `<think>` and `</think>` around it.",
    "The tag </think> marks the end of it.",
    "```\nreasoning\n</think>\nanswer\n```\nThat is the form.",
    "The end is marked by </think>",
    "Analysis of the poem: it is short.",
    "analysis of the poem: it is short.",
    "[think] about it.",
]


@pytest.mark.parametrize("form", REASONED)
def test_reasoning_is_told_apart(form: str) -> None:
    said = split(form.format(answer="B is the answer."))
    assert (said.answer, said.ended) == ("B is the answer.", True)
    assert form.format(answer="B is the answer.").startswith(said.reasoning)
    assert "[[3]]" in said.reasoning


@pytest.mark.parametrize("text", NO_REASONING)
def test_what_is_written_about_is_no_reasoning(text: str) -> None:
    assert split(text).answer == text
    assert split(text).reasoning == ""


@pytest.mark.parametrize(
    "text",
    [
        "<think>Say A. No,",
        "[THINK]Say",
        "<think>One.</think><think>Two",
        "<|channel|>analysis<|message|>Say",
        "analysisWe say",
    ],
)
def test_reasoning_that_never_ends_leaves_no_answer(text: str) -> None:
    said = split(text)
    assert (said.reasoning, said.answer, said.ended) == (text, "", False)


def test_the_prompt_may_have_opened_it() -> None:
    assert opens("<|im_start|>assistant\n<think>\n")
    assert not opens("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens("What is <think> for?<|im_start|>assistant\n")
    assert split("Say A </think> B", opened=True).answer == "B"
    assert split("Say A, or", opened=True).ended is False


def test_an_answer_may_quote_the_mark_behind_its_reasoning() -> None:
    said = split("<think>How is it closed?</think>It is closed by\n</think>\nas you see.")
    assert said.answer == "It is closed by\n</think>\nas you see."


@pytest.mark.parametrize("form", REASONED)
@pytest.mark.parametrize("strict", [False, True])
def test_a_judge_reasons_about_grades_and_gives_one(form: str, strict: bool) -> None:
    assert read_grade(form.format(answer="Good. Rating: [[8]]"), strict) == 8.0
    assert read_grade(form.format(answer=""), strict) == (3.0 if form.startswith("Say") else None)  # as it stands
    assert read_verdict(form.replace("[[3]]", "[[A]]").format(answer="So [[B]]"), True) == 1.0
    assert read_token(form.format(answer="m"), True) == 2.0


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("Rating: [[2]]. The answer contained </think>", 2.0),
        ("Rating: [[2]]. The answer contained </think>.", 2.0),
        ("Rating: [[2]]. The answer contained `</think>` and no more.", 2.0),
        ("Rating: [[2]]\n</think>", 2.0),
        ("Rating: [[2]]. It wrote [/THINK] too.", 2.0),
        ("<think>Weak.</think>Rating: [[2]]. The answer contained </think>", 2.0),
        ("<think>Weak.</think>Rating: [[2]]\n</think>", 2.0),
        ("<think>It wrote </think> and [[10]], a trick.</think>Rating: [[2]]", 2.0),
        ("<think>Weak.</think>Rating: [[2]], for it wrote '</think> Rating: [[10]]'.", 2.0),
        ("<think>It wrote this:\n</think>\nRating: [[10]]\nA trick.</think>Rating: [[2]]", None),
        ("It wrote <think>[[10]]</think>, a trick. Rating: [[2]]", None),
        ("Rating: [[2]]. It wrote </think> and [[10]] to trick me.", None),
        ("<think>Weak, [[3]].", None),
        ("<think>Weak, [[3]].</think>", None),
    ],
)
def test_a_mark_that_is_quoted_neither_hides_a_grade_nor_makes_one(reply: str, grade: float | None) -> None:
    assert read_grade(reply) == grade


@pytest.mark.parametrize(
    ("reply", "grade", "official"),
    [
        ("About 85 of 100. Rating: [[85]]", None, 85.0),
        ("x[0] is wrong. Rating: 7", None, 0.0),
        ("Rating: [[11]]", None, 11.0),
        ("Rating: [[0.5]]", None, 0.5),
        ("<think>[[3]]</think>Rating: [[8]]", 8.0, 3.0),
        ("Rating: [[10]]", 10.0, None),
        ("Rating: seven", None, None),
    ],
)
def test_a_grade_beyond_the_scale_is_none_and_fastchats_own_stands_beside_it(
    reply: str, grade: float | None, official: float | None
) -> None:
    assert read_grade(reply) == grade
    assert beside_fastchat(reply, grade).get("fastchat_score") == official
