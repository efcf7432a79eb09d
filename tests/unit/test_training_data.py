"""Rows -> tokens: masks by position, the stop token learnt, one BOS, truncation counted, malformed rows located."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError
from tests.tiny_model import BOS, STOP
from training.data import DataRules, batch_plan, collate, load_examples
from training.rows import single_example
from training.shapes import Files, shape_rows
from training.stages import Shape
from training.tokens import Example, Tokens

ASK = [{"role": "user", "content": "What is two plus three?"}]
SFT_ROW = {"prompt": ASK, "answer": "Five."}
PAIR_ROW = {"prompt": ASK, "chosen": "Five.", "rejected": "The lazy dog, and the river, and the fox."}


def load(tmp_path: Path, tokenizer: Any, rows: list[Any], pairs: bool = False, max_length: int = 512) -> Any:
    path = tmp_path / "data.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return load_examples(path, tokenizer, DataRules(max_length, "pairs" if pairs else "answers"))


def labelled_text(tokenizer: Any, sequence: Tokens) -> str:
    batch = collate([sequence])
    return tokenizer.decode(batch.ids[0][batch.labelled[0]].tolist())


def test_only_the_answer_is_learnt_and_it_ends_with_the_stop_token(tmp_path: Path, tokenizer: Any) -> None:
    (example,), counts = load(tmp_path, tokenizer, [SFT_ROW])
    assert labelled_text(tokenizer, example.chosen) == "Five." + STOP
    assert (
        tokenizer.decode(list(example.chosen.ids[: example.chosen.prompt_tokens]))
        == f"{BOS}<|user|>What is two plus three?{STOP}<|assistant|>"
    )
    assert (
        counts.labelled_tokens
        == example.chosen.labelled
        == len(tokenizer("Five.", add_special_tokens=False)["input_ids"]) + 1
    )


def test_the_stop_token_is_learnt_though_it_is_also_the_padding_token(tmp_path: Path, tokenizer: Any) -> None:
    """Padding equals the stop token here; a mask by `id == pad` would leave STOP out, or learn the padding."""
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    examples, _ = load(
        tmp_path, tokenizer, [SFT_ROW, {**SFT_ROW, "answer": "Two plus three is five, and the fox jumps."}]
    )
    batch = collate(example.chosen for example in examples)
    for row, example in enumerate(examples):
        length = len(example.chosen.ids)
        assert batch.labelled[row].nonzero().flatten().tolist() == list(range(example.chosen.prompt_tokens, length))
        assert batch.ids[row, length - 1] == tokenizer.eos_token_id
    assert len(examples[0].chosen.ids) < batch.ids.shape[1]  # so padding really occurred


def test_there_is_one_bos_though_tokenizer_and_template_both_add_it(tmp_path: Path, tokenizer: Any) -> None:
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    (example,), _ = load(tmp_path, tokenizer, [PAIR_ROW], pairs=True)
    for sequence in example.sequences:
        assert list(sequence.ids).count(tokenizer.bos_token_id) == 1


def test_of_a_conversation_only_the_last_answer_is_learnt(tmp_path: Path, tokenizer: Any) -> None:
    row = {
        "messages": [
            *ASK,
            {"role": "assistant", "content": "Five."},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes, five."},
        ]
    }
    (example,), _ = load(tmp_path, tokenizer, [row])
    assert labelled_text(tokenizer, example.chosen) == "Yes, five." + STOP


def test_plain_text_is_learnt_whole_and_ends_with_eos_without_bos(tmp_path: Path, tokenizer: Any) -> None:
    (example,), counts = load(tmp_path, tokenizer, [{"text": "The lazy dog."}])
    ids = tokenizer("The lazy dog.", add_special_tokens=False)["input_ids"]
    assert list(example.chosen.ids) == [*ids, tokenizer.eos_token_id]
    assert counts.labelled_tokens == len(ids)  # all but the first, which nothing predicts
    assert counts.tokens == len(ids) + 1


def test_pairs_share_the_prompt_and_each_side_has_its_own_answer(tmp_path: Path, tokenizer: Any) -> None:
    (example,), counts = load(tmp_path, tokenizer, [PAIR_ROW], pairs=True)
    assert labelled_text(tokenizer, example.chosen) == PAIR_ROW["chosen"] + STOP
    assert labelled_text(tokenizer, example.rejected) == PAIR_ROW["rejected"] + STOP
    assert example.chosen.prompt_tokens == example.rejected.prompt_tokens
    assert counts.tokens == len(example.chosen.ids) + len(example.rejected.ids)


def test_long_answers_are_cut_and_prompts_without_room_dropped_and_both_counted(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        SFT_ROW,
        {**SFT_ROW, "answer": "q" * 200},
        {"prompt": [{"role": "user", "content": "z" * 300}], "answer": "Five."},
    ]
    examples, counts = load(tmp_path, tokenizer, rows, max_length=100)
    assert (counts.rows, counts.used, counts.truncated_answers) == (3, 2, 1)
    assert counts.dropped == {"prompt_too_long": 1}
    assert len(examples[1].chosen.ids) == 100
    assert examples[1].chosen.ids[-1] != tokenizer.eos_token_id


def test_an_answer_that_the_cut_empties_drops_the_whole_pair(tmp_path: Path, tokenizer: Any) -> None:
    (whole,), _ = load(tmp_path, tokenizer, [PAIR_ROW], pairs=True)
    prompt_tokens = whole.chosen.prompt_tokens
    with pytest.raises(InputError, match=rf"1 of 1 rows \(1 prompt_too_long\).*max_length \(now {prompt_tokens}\)"):
        load(tmp_path, tokenizer, [PAIR_ROW], pairs=True, max_length=prompt_tokens)
    (cut,), counts = load(tmp_path, tokenizer, [PAIR_ROW], pairs=True, max_length=prompt_tokens + 1)
    assert (cut.chosen.labelled, cut.rejected.labelled, counts.truncated_answers) == (1, 1, 2)


def test_half_a_surrogate_pair_is_no_text_to_learn(tokenizer: Any) -> None:
    """A file's reader replaces it, or names the line; one that comes past both is refused."""
    with pytest.raises(InputError, match="holds half a surrogate pair"):
        single_example(tokenizer, {"prompt": "So \ud83d.", "answer": "a"})


@pytest.mark.parametrize(
    ("row", "pairs", "message"),
    [
        ("{not json", False, "line 4: not valid JSON"),
        ("[1, 2]", False, "line 4: a JSON object is expected"),
        ({"prompt": ASK}, False, "line 4: key answer is missing .* this row has prompt"),
        ({"prompt": ASK, "chosen": "a"}, True, "line 4: key rejected is missing"),
        (SFT_ROW, True, "line 4: key chosen, rejected is missing"),
        ({"prompt": ASK, "answer": 5}, False, "line 4: 'answer' must be text, this is int"),
        ({"prompt": ASK, "answer": "a", "weight": -1}, False, "line 4: 'weight' is a finite number of at least 0"),
        ({"prompt": ASK, "answer": "a", "weight": "1"}, False, "line 4: 'weight' is a finite number of at least 0"),
        ({"prompt": 7, "answer": "a"}, False, "line 4: 'prompt' must be a list of messages .* or the user's text"),
        ({"messages": [*ASK, {"role": "assistant", "content": "a"}], "learn": "some"}, False, "line 4: 'learn' is"),
        ({"messages": [*ASK, {"role": "assistant", "content": "a", "tool_calls": [1]}]}, False, "line 4: .*tool_calls"),
        (
            {"messages": [*ASK, {"role": "assistant", "content": "a", "reasoning_content": "b"}]},
            False,
            "line 4: the answer has reasoning",
        ),
        ({"prompt": [], "answer": "a"}, False, "line 4: 'prompt' must be a list of messages with at least one"),
        ({"prompt": [{"role": "robot", "content": "x"}], "answer": "a"}, False, "line 4: 'prompt': a message is"),
        ({"messages": ASK}, False, "line 4: 'messages' must end with the assistant's answer"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(
    tmp_path: Path, tokenizer: Any, row: Any, pairs: bool, message: str
) -> None:
    good = PAIR_ROW if pairs else SFT_ROW
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, tokenizer, [good, "", good, row, good], pairs=pairs)  # the blank line 2 counts as a line
    assert "data.jsonl" in str(caught.value)


def test_an_empty_or_missing_data_set_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(InputError, match="no rows"):
        load(tmp_path, tokenizer, [])
    with pytest.raises(InputError, match="not found"):
        load_examples(tmp_path / "absent.jsonl", tokenizer, DataRules(10))


@pytest.mark.parametrize(("examples", "batch_size"), [(1000, 32), (5, 8), (33, 1), (64, 64)])
def test_the_plan_takes_each_example_once_an_epoch(examples: int, batch_size: int) -> None:
    lengths = [(index * 37) % 101 for index in range(examples)]
    plan = batch_plan(lengths, batch_size, seed=3, epoch=0)
    assert sorted(index for batch in plan for index in batch) == list(range(examples))
    assert sorted(map(len, plan), reverse=True)[:-1] == [batch_size] * (len(plan) - 1)


def test_the_plan_follows_from_its_arguments_and_changes_with_seed_and_epoch() -> None:
    lengths = [(index * 37) % 101 for index in range(300)]
    plan = batch_plan(lengths, 16, seed=3, epoch=1)
    assert plan == batch_plan(list(lengths), 16, seed=3, epoch=1)
    assert plan != batch_plan(lengths, 16, seed=4, epoch=1)
    assert plan != batch_plan(lengths, 16, seed=3, epoch=2)


def test_the_plan_keeps_padding_small_and_lengths_shuffled() -> None:
    """Lengths 1..640 once each in batches of 16.

    Unsorted, a batch's longest is near 600; sorted in chunks of 256, near its mean.
    """
    lengths = list(range(1, 641))
    plan = batch_plan(lengths, 16, seed=0, epoch=0)
    padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in plan)
    assert padded < 1.1 * sum(lengths)
    longest = [max(lengths[index] for index in batch) for batch in plan]
    assert longest != sorted(longest)


def test_a_batch_is_padded_to_its_own_longest() -> None:
    batch = collate([Tokens.of([5, 6], [7]), Tokens.of([5], [8, 9, 10])])
    assert batch.ids.tolist() == [[5, 6, 7, 0], [5, 8, 9, 10]]
    assert batch.labelled.tolist() == [[False, False, True, False], [False, True, True, True]]
    assert Example(Tokens.of([1], [2]), Tokens.of([1], [2, 3, 4])).length == 4


# What is left out, and what is refused


def test_rows_that_teach_nothing_are_dropped_and_counted_by_reason(tmp_path: Path, tokenizer: Any) -> None:
    alike = "The quick brown fox jumps over the lazy dog"
    rows = [
        *[PAIR_ROW] * 5,
        {**PAIR_ROW, "chosen": " "},
        {**PAIR_ROW, "rejected": PAIR_ROW["chosen"]},
        {"prompt": ASK, "chosen": f"{alike}.", "rejected": f"{alike}!"},
        {**PAIR_ROW, "prompt": "What is two plus three? " * 9},
    ]
    (pair,), _ = load(tmp_path, tokenizer, [PAIR_ROW], pairs=True)
    examples, counts = load(tmp_path, tokenizer, rows, pairs=True, max_length=pair.chosen.prompt_tokens + 3)
    assert len(examples) == counts.used == 5
    assert counts.dropped == {"empty_answer": 1, "equal_pair": 1, "equal_after_truncation": 1, "prompt_too_long": 1}
    assert counts.dropped_share == pytest.approx(4 / 9)


def test_data_of_which_too_much_is_dropped_is_refused_unless_asked_for(tmp_path: Path, tokenizer: Any) -> None:
    """31 of 32 prompts were too long once, and the run trained on the one that was left."""
    path = tmp_path / "data.jsonl"
    long = {"prompt": "What is two plus three? " * 20, "answer": "Five."}
    path.write_text("".join(json.dumps(row) + "\n" for row in [SFT_ROW, *[long] * 31]))
    with pytest.raises(InputError, match=r"31 of 32 rows \(31 prompt_too_long\).*max_dropped_share = 0\.5"):
        load_examples(path, tokenizer, DataRules(64, max_dropped_share=0.5))
    examples, _ = load_examples(path, tokenizer, DataRules(64, max_dropped_share=0.97))
    assert len(examples) == 1


def test_sequences_beyond_the_models_positions_are_refused(tmp_path: Path, tokenizer: Any) -> None:
    """`max_length` alone may exceed them: no sequence need be that long."""
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(SFT_ROW) + "\n")
    [example], _ = load_examples(path, tokenizer, DataRules(512, positions=40))
    length = example.length
    load_examples(path, tokenizer, DataRules(512, positions=length))
    with pytest.raises(InputError, match=f"the longest sequence has {length} tokens.*positions for {length - 1}"):
        load_examples(path, tokenizer, DataRules(512, positions=length - 1))


def test_a_prompt_may_be_the_users_text(tmp_path: Path, tokenizer: Any) -> None:
    as_text = [{**row, "prompt": ASK[0]["content"]} for row in (SFT_ROW, PAIR_ROW)]
    assert load(tmp_path, tokenizer, as_text[:1]) == load(tmp_path, tokenizer, [SFT_ROW])
    assert load(tmp_path, tokenizer, as_text[1:], pairs=True) == load(tmp_path, tokenizer, [PAIR_ROW], pairs=True)


def test_all_answers_of_a_conversation_are_learnt_where_asked_for(tmp_path: Path, tokenizer: Any) -> None:
    turns = [*ASK, {"role": "assistant", "content": "Five."}, {"role": "user", "content": "Sure?"}]
    row = {"messages": [*turns, {"role": "assistant", "content": "Yes, five."}], "learn": "all"}
    (example,), counts = load(tmp_path, tokenizer, [row])
    assert labelled_text(tokenizer, example.chosen) == f"Five.{STOP}Yes, five.{STOP}"
    assert counts.labelled_tokens == example.chosen.labelled
    (last,), _ = load(tmp_path, tokenizer, [{**row, "learn": "last"}])
    assert last.chosen.ids == example.chosen.ids
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"messages": row["messages"]}) + "\n")
    assert load_examples(path, tokenizer, DataRules(512, learn="all"))[0] == [example]
    first_only = len(example.chosen.ids) - 4
    (cut,), counts = load(tmp_path, tokenizer, [row], max_length=first_only)
    assert cut.chosen.labelled == example.chosen.labelled - 4
    assert counts.truncated_answers == 1


def test_reasoning_of_the_last_message_is_learnt(tmp_path: Path) -> None:
    from tests.chat_tokenizers import byte_level

    template = (
        "{% for m in messages %}<|{{ m.role }}|>{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
        "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokenizer = byte_level(template, "<|end|>", special=["<|user|>", "<|assistant|>"])
    said = {"role": "assistant", "content": "Five.", "reasoning_content": "Two and three."}
    (example,), _ = load(tmp_path, tokenizer, [{"messages": [*ASK, said]}])
    assert labelled_text(tokenizer, example.chosen) == "(Two and three.)Five.<|end|>"


def test_empty_drafts_are_counted_like_other_empty_answers(tmp_path: Path, tokenizer: Any) -> None:
    drafts = tmp_path / "revised.jsonl"
    drafts.write_text("".join(json.dumps({"prompt": ASK, "answer": text}) + "\n" for text in ("Five.", " ", "Six.")))
    rows = shape_rows(Shape("drafts"), Files(drafts), seed=0)
    examples, counts = load(tmp_path, tokenizer, rows)
    assert (len(examples), counts.dropped) == (2, {"empty_answer": 1})
