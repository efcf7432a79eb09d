"""Every shape of data, by hand: what it is recognised by, what its rows become, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from seft_bench.config import ROLES, Role
from seft_bench.data.conversations import LeftOutError, ShapeError
from seft_bench.data.roles import as_role, recognise
from seft_bench.data.shapes import SHAPES, Options, kind_of, read_row
from seft_bench.records import Row


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(row: Row, role: Role, **options: str) -> list[Row]:
    """The rows of a role, by the shape that is recognised."""
    shape = SHAPES[recognise(row, role)]
    return [made for ours in read_row(shape, row, Options(**options)) for made in as_role(ours, role)]


PAIR = {"prompt": [user("Sky?")], "chosen": "Blue.", "rejected": "Green."}

PREFERENCES: dict[str, Row] = {
    "TRL, texts": {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."},
    "TRL, messages": {"prompt": [user("Sky?")], "chosen": [said("Blue.")], "rejected": [said("Green.")]},
    "TRL, implicit prompt": {"chosen": [user("Sky?"), said("Blue.")], "rejected": [user("Sky?"), said("Green.")]},
    "ours": PAIR,
    "UltraFeedback-binarized": {
        "prompt": "Sky?",
        "prompt_id": "f0",
        "chosen": [user("Sky?"), said("Blue.")],
        "rejected": [user("Sky?"), said("Green.")],
        "messages": [user("Sky?"), said("Blue.")],
        "score_chosen": 8.0,
        "score_rejected": 6.5,
    },
    "HH-RLHF": {"chosen": "\n\nHuman: Sky?\n\nAssistant: Blue.", "rejected": "\n\nHuman: Sky?\n\nAssistant: Green."},
    "from a table, where absent keys are null": {
        "prompt": None,
        "chosen": [{**user("Sky?"), "name": None}, {**said("Blue."), "name": None}],
        "rejected": [{**user("Sky?"), "name": None}, {**said("Green."), "name": None}],
    },
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_every_shape_of_a_pair_becomes_one_row(name: str) -> None:
    assert read(PREFERENCES[name], "preferences") == [PAIR]
    assert read(PREFERENCES[name], "calibration") == [PAIR]


def test_an_implicit_prompt_is_all_that_two_conversations_begin_with() -> None:
    before = [{"role": "system", "content": "Be brief."}, user("A fish?"), said("A carp."), user("Another?")]
    row = {"chosen": [*before, said("A tuna.")], "rejected": [*before, said("A carp!")]}
    assert read(row, "preferences") == [{"prompt": before, "chosen": "A tuna.", "rejected": "A carp!"}]


NECTAR: Row = {
    "prompt": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Sky? \n\nAssistant: ",
    "answers": [
        {"answer": "Grey.", "model": "c", "rank": 3.0},
        {"answer": "Blue.", "model": "a", "rank": 1.0},
        {"answer": "Bluish.", "model": "b", "rank": 2.0},
    ],
    "turns": 2,
}


def test_ranked_answers_make_pairs() -> None:
    prompt = [user("Hi"), said("Hello."), user("Sky?")]

    def pairs(pairing: str) -> list[tuple[str, str]]:
        rows = read(NECTAR, "preferences", pairs=pairing)
        assert all(row["prompt"] == prompt for row in rows)
        return [(row["chosen"], row["rejected"]) for row in rows]

    assert pairs("best_worst") == [("Blue.", "Grey.")]
    assert pairs("adjacent") == [("Blue.", "Bluish."), ("Bluish.", "Grey.")]
    assert pairs("all") == [("Blue.", "Bluish."), ("Blue.", "Grey."), ("Bluish.", "Grey.")]


def test_answers_of_one_rank_make_no_pair() -> None:
    tied = [{"answer": "Blue.", "rank": 1}, {"answer": "Azure.", "rank": 1}]
    with pytest.raises(LeftOutError, match="make no pair"):
        read({"prompt": "Sky?", "answers": tied}, "preferences")


ANSWER = [{"prompt": [user("Sky?")], "answer": "Blue."}]

SFT: dict[str, tuple[Row, list[Row]]] = {
    "TRL, texts": ({"prompt": "Sky?", "completion": "Blue."}, ANSWER),
    "TRL, messages": ({"prompt": [user("Sky?")], "completion": [said("Blue.")]}, ANSWER),
    "ours": ({"prompt": [user("Sky?")], "answer": "Blue."}, ANSWER),
    "Alpaca": ({"instruction": "Sky?", "input": "", "output": "Blue."}, ANSWER),
    "Alpaca with an input": (
        {"instruction": "Translate.", "input": "ciel", "output": "sky", "text": "### all of it"},
        [{"prompt": [user("Translate.\n\nciel")], "answer": "sky"}],
    ),
    "a system column": (
        {"system": "Be brief.", "prompt": "Sky?", "completion": "Blue."},
        [{"prompt": [{"role": "system", "content": "Be brief."}, user("Sky?")], "answer": "Blue."}],
    ),
    "messages": ({"messages": [user("Sky?"), said("Blue.")]}, [{"messages": [user("Sky?"), said("Blue.")]}]),
    "ShareGPT": (
        {
            "id": "x",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Sky?"},
                {"from": "gpt", "value": "Blue."},
                {"from": "human", "value": "Thanks"},
            ],
        },
        [{"messages": [{"role": "system", "content": "Be brief."}, user("Sky?"), said("Blue.")]}],
    ),
}


@pytest.mark.parametrize("name", SFT)
def test_every_shape_of_an_answer_becomes_one_row(name: str) -> None:
    row, expected = SFT[name]
    assert read(row, "sft") == expected


def test_all_answers_of_a_conversation_are_learnt_where_that_is_asked_for() -> None:
    row = {"messages": [user("A"), said("B"), user("C"), said("D")]}
    assert read(row, "sft", learn="all") == [{**row, "learn": "all"}]
    assert read({**row, "learn": "all"}, "sft") == [{**row, "learn": "all"}]
    assert read(row, "sft") == [row]


def test_unpaired_answers() -> None:
    for label in (True, 1, "true", "True", "1"):
        row = {"prompt": "Sky?", "completion": "Blue.", "label": label}
        assert read(row, "unpaired") == [{"prompt": [user("Sky?")], "answer": "Blue.", "label": True}], label
    with pytest.raises(ShapeError, match=r"'label' must be true or false, this is str 'good'"):
        read({"prompt": "Sky?", "completion": "Blue.", "label": "good"}, "unpaired")


def test_unpaired_answers_out_of_a_pair() -> None:
    prompt = [user("Sky?")]
    assert read(PAIR, "unpaired") == [
        {"prompt": prompt, "answer": "Blue.", "label": True},
        {"prompt": prompt, "answer": "Green.", "label": False},
    ]


def test_prompts_are_taken_out_of_every_shape_and_answers_left_behind() -> None:
    rows = [*PREFERENCES.values(), *(SFT[name][0] for name in ("TRL, texts", "ours", "Alpaca", "messages"))]
    rows += [{"prompt": "Sky?"}, {"instruction": "Sky?"}, {"prompt": "Sky?", "completion": "Blue.", "label": True}]
    for row in rows:
        assert read(row, "prompts") == [{"prompt": [user("Sky?")]}], row
    assert read({"prompt": [user("Sky?")], "annotated": False}, "prompts") == [
        {"prompt": [user("Sky?")], "annotated": False}
    ]
    assert read(NECTAR, "prompts") == [{"prompt": [user("Hi"), said("Hello."), user("Sky?")]}]


def test_good_answers_serve_sft_only_where_the_shape_is_named() -> None:
    with pytest.raises(ShapeError, match="no known shape of sft"):
        recognise(PAIR, "sft")
    assert as_role(PAIR, "sft") == ANSWER


def test_plain_text_is_for_pretraining() -> None:
    assert read({"text": "The Danube."}, "pretrain") == [{"text": "The Danube."}]


LEFT_OUT: dict[str, tuple[Role, Row]] = {
    "empty prompt": ("sft", {"prompt": " ", "completion": "Blue."}),
    "conversation without an answer": ("sft", {"messages": [user("Sky?")]}),
    "conversation that the assistant begins": ("sft", {"messages": [said("Hi"), user("Sky?"), said("Blue.")]}),
    "prompt that does not end with the user's message": ("prompts", {"prompt": [user("A"), said("B")]}),
    "chosen and rejected that begin with no common message": (
        "preferences",
        {"chosen": [user("A"), said("B")], "rejected": [user("C"), said("D")]},
    ),
    "answer of more than one message": (
        "preferences",
        {"chosen": [user("A"), said("B"), user("C"), said("D")], "rejected": [user("A"), said("E")]},
    ),
    "conversation that ends in a pair without an answer": (
        "preferences",
        {"chosen": [user("A"), said("B")], "rejected": [user("A")]},
    ),
}


def test_rows_that_teach_nothing_are_left_for_training_to_count() -> None:
    equal = {"chosen": [user("Sky?"), said("Blue.")], "rejected": [user("Sky?"), said("Blue.")]}
    assert read(equal, "preferences") == [{**PAIR, "rejected": "Blue."}]
    assert read({"prompt": "Sky?", "completion": ""}, "sft") == [{**ANSWER[0], "answer": ""}]


def test_reasoning_stands_before_its_answer() -> None:
    thought = {**said("Blue."), "reasoning_content": "It scatters."}
    row = {"prompt": "Sky?", "chosen": [thought], "rejected": [said("Green.")]}
    assert read(row, "preferences")[0]["chosen"] == "<think>\nIt scatters.\n</think>\n\nBlue."
    with pytest.raises(ShapeError, match="an answer that calls tools cannot be learnt"):
        read({**row, "chosen": [{**said(""), "tool_calls": [{"name": "f"}]}]}, "preferences")


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_cannot_be_used_is_left_out_with_its_reason(reason: str) -> None:
    role, row = LEFT_OUT[reason]
    with pytest.raises(LeftOutError) as caught:
        read(row, role)
    assert str(caught.value) == reason


MALFORMED: list[tuple[Role, Row, str]] = [
    (
        "preferences",
        {"prompt": "Sky?", "chosen": 7, "rejected": "Green."},
        "'chosen' must be text or a list of messages, this is int '7'",
    ),
    ("preferences", {"prompt": "Sky?", "chosen": "Blue.", "rejected": [said("G")]}, "not one form"),
    ("preferences", {"chosen": "Blue.", "rejected": "Green."}, "there is no 'prompt'"),
    ("preferences", {"question": "Sky?", "good": "Blue."}, r"the row has question \(str\), good \(str\)\. Shapes"),
    ("preferences", {"prompt": "Sky?", "answers": ["Blue."]}, "an answer has 'answer', a text, and 'rank'"),
    ("preferences", {"prompt": "Sky?", "answers": [{"answer": "Blue.", "rank": "1"}]}, "rank .* must be a number"),
    ("sft", {"messages": [{"role": "bot", "content": "x"}]}, "a message is from 'bot'; known are system, user, assis"),
    (
        "sft",
        {"conversations": [{"from": "bing", "value": "x"}]},
        "from 'bing'; known are human, user, gpt",
    ),
    ("sft", {"messages": [user("A"), {"role": "assistant", "content": None}]}, "must be text, this is null"),
    ("sft", {"messages": ["A"]}, "a message has a role and a content, this is str 'A'"),
    ("sft", {"instruction": "A", "output": 42}, "'output' must be text, this is int '42'"),
    ("sft", {"instruction": "A", "input": 3, "output": "B"}, "'input' must be text"),
    ("sft", {"prompt": "A", "completion": [user("B")]}, "must end with the assistant's message"),
    ("sft", {"prompt": "A \ud83d", "completion": "B"}, "half a surrogate pair"),
    ("sft", {"messages": [user("A"), said("\udc00")]}, "half a surrogate pair"),
    ("prompts", {"prompt": []}, "must be a list of messages with at least one"),
]


@pytest.mark.parametrize(("role", "row", "message"), MALFORMED)
def test_a_malformed_row_is_said_to_be_what_it_is(role: Role, row: Row, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        read(row, role)


def test_a_row_that_lacks_a_column_of_the_others_is_malformed() -> None:
    with pytest.raises(ShapeError, match="column rejected is missing; this row has prompt, chosen"):
        read_row(SHAPES["preference"], {"prompt": "Sky?", "chosen": "Blue."}, Options())


def test_what_a_row_cannot_serve_is_said() -> None:
    with pytest.raises(ShapeError, match="preferences cannot be made from answers; they are made from pairs"):
        as_role(ANSWER[0], "preferences")
    ours: list[Row] = [PAIR, *ANSWER, {"messages": [user("A"), said("B")]}, {"text": "T"}, {"prompt": [user("A")]}]
    served = {role: [kind_of(row) for row in ours if _serves(row, role)] for role in ROLES}
    assert served == {
        "sft": ["pairs", "answers", "messages"],
        "preferences": ["pairs"],
        "calibration": ["pairs"],
        "prompts": ["pairs", "answers", "messages", "prompts"],
        "unpaired": ["pairs"],
        "pretrain": ["text"],
    }


def _serves(row: Row, role: Role) -> bool:
    try:
        return bool(as_role(row, role))
    except ShapeError:
        return False
