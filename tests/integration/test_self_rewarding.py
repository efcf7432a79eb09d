"""Self-rewarding: the round's own policy grades, by its likelihood or in words, and what grades is said everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.files import read_json, read_jsonl
from seft_bench.generators.conversations import Completion, Sampling
from seft_bench.generators.transformers import TransformersGenerator
from seft_bench.records import Message
from tests.integration.cli import Seen, good, seft_bench
from tests.small_seft import STEP, write_data
from tests.tiny_model import make_tiny_model
from training.logprobs import score_answer_lists

SAMPLES = 3


@pytest.fixture
def recipe(desk: Path) -> Path:
    few = {"start": STEP, "policy": {**STEP, "max_steps": 2}, "samples": SAMPLES}
    keys = {
        "name": "own",
        "method": "self-rewarding",
        "base": str(make_tiny_model(desk / "base", context_tokens=4096)),
        "data": str(write_data(desk / "data")),
        "settings": {**few, "drafts": {"max_new_tokens": 8, "temperature": 1.0}},
    }
    (desk / "own.yaml").write_text(yaml.safe_dump(keys))
    return desk


def train(*more: str) -> Seen:
    return seft_bench("train", "own.yaml", *more)


def in_words(*more: str) -> Seen:
    return train("settings.judge=prompt", "settings.judging.max_new_tokens=16", *more)


def stage(desk: Path, name: str) -> Path:
    [found] = (desk / "runs" / "own" / "stages").glob(f"{name}-*")
    return found


def test_the_rounds_own_policy_grades_by_its_likelihood(recipe: Path) -> None:
    seen = good(train())
    policy = stage(recipe, "policy-1") / "checkpoints" / "step-000001"
    rows = read_jsonl(stage(recipe, "grades-by-likelihood-2") / "scores.jsonl")
    pairs = [(row["prompt"], text) for row in rows for text in row["samples"]]
    [scores] = score_answer_lists(policy, None, [pairs])
    own = [score.sum / score.tokens for score, (_, text) in zip(scores, pairs, strict=True) if text.strip()]
    grades = [grade for row in rows for grade in row["grades"] if grade is not None]
    assert grades == pytest.approx(own, abs=1e-5)
    trained = read_jsonl(stage(recipe, "policy-2") / "training_rows.jsonl")
    for row, pair in zip(rows, trained, strict=True):
        graded = [(grade, text) for grade, text in zip(row["grades"], row["samples"], strict=True) if grade is not None]
        assert (pair["chosen"], pair["rejected"]) == (max(graded)[1], min(graded)[1])
    manifest = read_json(recipe / "runs" / "own" / "manifest.json")
    assert manifest["graded_by"]["grades-by-likelihood-2"] == "likelihood under stage:policy-1"
    assert "grades-by-likelihood-2: 9 samples graded by likelihood under stage:policy-1" in seen.err


def test_a_policy_that_cannot_follow_a_judges_prompt_stops_with_the_alternative(recipe: Path) -> None:
    seen = good(in_words(), status=2)
    assert "stage 'grades-by-prompt-1': 0 of 9 samples have a grade by stage:start, asked with" in seen.err
    assert "9 parse_error" in seen.err
    assert "`judge: likelihood` grades by the policy's own mean log-probability" in seen.err
    assert not list((recipe / "runs" / "own" / "stages").glob("policy-1-*/train.jsonl"))
    assert [len(row["texts"]) for row in read_jsonl(stage(recipe, "grades-by-prompt-1") / "replies.jsonl")] == [3] * 9


def test_what_the_policy_says_is_averaged_and_equal_grades_make_no_pair(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = TransformersGenerator.complete

    def complete(
        self: TransformersGenerator,
        conversations: Sequence[Sequence[Message]],
        samplings: Sequence[Sampling],
        max_new_tokens: int,
        seed: int,
        template_args: Mapping[str, Any] | None = None,
    ) -> list[Completion]:
        if max_new_tokens != 16:
            return own(self, conversations, samplings, max_new_tokens, seed, template_args)
        return [_verdict(asked, sampling) for asked, sampling in zip(conversations, samplings, strict=True)]

    monkeypatch.setattr(TransformersGenerator, "complete", complete)
    seen = good(in_words("settings.rounds=1"))
    rows = read_jsonl(stage(recipe, "grades-by-prompt-1") / "scores.jsonl")
    assert rows[0]["grades"] == [5.5] * SAMPLES, "the mean of 5 and 6; the third draw says nothing"
    assert all(len(set(row["grades"])) > 1 for row in rows[1:])
    record = read_json(stage(recipe, "grades-by-prompt-1") / "stage.json")
    assert (record["prompts_graded_alike"], record["samples_graded"], record["ungraded"]) == (1, 18, 0)
    assert (record["judge_calls"], record["tokens_generated"]) == (18 * 3, 18 * 3 * 7)
    assert len(read_jsonl(stage(recipe, "policy-1") / "training_rows.jsonl")) == 5
    assert "1 prompts whose samples are all graded alike, which make no pair" in seen.err


def _verdict(asked: Sequence[Message], sampling: Sampling) -> Completion:
    """Grade 5, 6 and nothing; but for the first prompt's the first draw depends on what is graded."""
    draw, text = int(sampling.key.rpartition("/")[2]), asked[-1]["content"]
    grade = 5 if "0. Name a" in text else 1 + zlib.crc32(text.encode()) % 10
    said = (f"Rating: [[{grade}]]", f"Rating: [[{grade + 1 if grade < 10 else grade}]]", "Well.")[draw]
    return Completion(said, "stop", 50, 7)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (["settings.judge_draws=2"], "judge_draws is for judge: prompt, and judge is likelihood"),
        (["settings.judge=prompt", "settings.judging.temperature=0"], "makes all 3 judge_draws alike"),
        (["settings.judge=rubric"], "'likelihood' or 'prompt'"),
    ],
)
def test_settings_of_the_other_judge_are_refused(recipe: Path, override: list[str], says: str) -> None:
    assert says in good(train(*override), status=2).err
