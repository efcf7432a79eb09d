"""SFT, losses of pairs, iterative DPO, ReAlign and SEFT on a real model with LoRA, scored on other real pairs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest

from seft_bench import pipeline
from seft_bench.files import read_json, read_jsonl
from seft_bench.records import Answer
from seft_bench.stages.recipes import load_recipe
from seft_bench.stages.runs import TrainedRun
from training.logprobs import AnswerLogprob, score_answer_lists

pytestmark = pytest.mark.real

Train = Callable[..., TrainedRun]


@pytest.fixture(scope="module")
def train(smollm2: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Runs a shipped recipe from SmolLM2 on the real pairs."""
    folder = tmp_path_factory.mktemp("runs")

    def run(recipe: str, *overrides: str) -> TrainedRun:
        chosen = load_recipe(recipe, [f"base={smollm2}", f"data={real_data}", *overrides])
        return pipeline.train(chosen, folder / chosen.name, checkpoints=1)

    return run


@pytest.fixture(scope="module")
def held_out(real_data: Path) -> Callable[[Path], tuple[list[AnswerLogprob], list[AnswerLogprob]]]:
    """Log-likelihoods of the held-out pairs' good and poor answers under a checkpoint, each computed once."""
    rows = read_jsonl(real_data / "held_out.jsonl")
    sides = [[(row["prompt"], row[side]) for row in rows] for side in ("chosen", "rejected")]
    known: dict[Path, tuple[list[AnswerLogprob], list[AnswerLogprob]]] = {}

    def score(model: Path) -> tuple[list[AnswerLogprob], list[AnswerLogprob]]:
        if model not in known:
            good, poor = score_answer_lists(model, None, sides, batch_size=8)
            known[model] = good, poor
        return known[model]

    return score


Scores = Callable[[Path], tuple[list[AnswerLogprob], list[AnswerLogprob]]]


def loss(scores: list[AnswerLogprob]) -> float:
    """Mean negative log-likelihood per token."""
    return -sum(score.sum for score in scores) / sum(score.tokens for score in scores)


def test_sft_lowers_the_held_out_loss(train: Train, held_out: Scores, smollm2: Path) -> None:
    run = train("smollm2-135m-sft")
    before, after = loss(held_out(smollm2)[0]), loss(held_out(run.checkpoints[-1])[0])
    print(f"held-out loss {before:.4f} -> {after:.4f}")
    assert after < before - 0.02


def test_dpo_prefers_held_out_good_answers(train: Train, held_out: Scores, smollm2: Path) -> None:
    """Accuracy of DPO's own reward, the log-ratio to the start; and its loss falls."""
    run = train("smollm2-135m-dpo")
    start, policy = held_out(smollm2), held_out(run.checkpoints[-1])
    accuracy = _gain_accuracy(start, policy, lambda score: score.sum)
    print(f"reward accuracy {accuracy:.3f}")
    assert accuracy > 0.6
    rows = read_jsonl(run.folder / "train.jsonl")
    assert fmean(row["loss"] for row in rows[-3:]) < rows[0]["loss"]


def test_orpo_prefers_held_out_good_answers(train: Train, held_out: Scores, smollm2: Path) -> None:
    """Accuracy of what ORPO added to its reward, the log-odds of an answer per token; and the held-out loss falls.

    The reward itself stays where the start had it on most pairs (it is printed): a few steps at this size move it, and
    seldom over the border.
    """
    run = train("smollm2-135m-orpo")
    start, policy = held_out(smollm2), held_out(run.checkpoints[-1])
    before, after = (fmean(g.mean > p.mean for g, p in zip(*scores, strict=True)) for scores in (start, policy))
    accuracy = _gain_accuracy(start, policy, lambda score: _log_odds(score.mean))
    print(f"reward accuracy of the gain {accuracy:.3f}, of the reward itself {before:.3f} -> {after:.3f}")
    assert accuracy > 0.6
    assert loss(policy[0]) < loss(start[0])


GAINS: dict[str, Callable[[AnswerLogprob], float]] = {
    "kto": lambda score: score.sum,
    "ipo": lambda score: score.sum,
    "simpo": lambda score: score.mean,
    "iterative-dpo": lambda score: score.sum,
}
"""Method -> what its reward is made of; with a reference the reward is what training added to it."""


@pytest.mark.parametrize("method", GAINS)
def test_a_method_prefers_held_out_good_answers(train: Train, held_out: Scores, smollm2: Path, method: str) -> None:
    run = train(f"smollm2-135m-{method}")
    accuracy = _gain_accuracy(held_out(_start(run) or smollm2), held_out(run.checkpoints[-1]), GAINS[method])
    print(f"{method}: reward accuracy {accuracy:.3f}")
    assert accuracy > 0.55


def test_realign_learns_its_pairs(train: Train, held_out: Scores) -> None:
    """It learns to prefer the revisions; what people prefer, it does not learn at this size from every seed.

    The held-out accuracy is printed only: .609 with one seed, .336 with another (docs/findings.md).
    """
    run = train("smollm2-135m-realign")
    start = _start(run)
    assert start is not None
    accuracy = _gain_accuracy(held_out(start), held_out(run.checkpoints[-1]), lambda score: score.sum)
    print(f"realign: reward accuracy {accuracy:.3f}")
    rows = [row for row in read_jsonl(run.folder / "train.jsonl") if row["stage"] == "policy-1"]
    assert fmean(row["loss"] for row in rows[-8:]) < rows[0]["loss"] - 0.02
    assert fmean(row["reward_accuracy"] for row in rows[-8:]) > 0.5
    assert read_json(run.folder / "diagnostics.json")["revised-1"]["diagnostics"]["copy_rate"] < 0.9


def _start(run: TrainedRun) -> Path | None:
    """What a recipe's own SFT made before the method: the gain is the method's alone."""
    made = sorted((run.folder / "stages").glob("start-*/checkpoints/*"))
    return made[-1] if made else None


def _gain_accuracy(
    start: tuple[list[AnswerLogprob], list[AnswerLogprob]],
    policy: tuple[list[AnswerLogprob], list[AnswerLogprob]],
    reward: Callable[[AnswerLogprob], float],
) -> float:
    """Share of pairs whose good answer's reward rose by more than the poor one's."""
    gains = [[reward(new) - reward(old) for new, old in zip(policy[side], start[side], strict=True)] for side in (0, 1)]
    return fmean(good > poor for good, poor in zip(*gains, strict=True))


def _log_odds(log_p: float) -> float:
    return log_p - math.log(-math.expm1(min(log_p, -1e-6)))


def test_seft_runs_two_rounds(train: Train) -> None:
    run = train("smollm2-135m-seft", "settings.prompts=16", "settings.reviser.epochs=1")
    said = read_json(run.folder / "diagnostics.json")
    for number in (1, 2):
        revised = said[f"revised-{number}"]["diagnostics"]
        print(f"round {number}: {revised}")
        assert revised["drafts"] == 8
        assert revised["keep_rate"] == 0, "the recipe revises all drafts"
        assert revised["copy_rate"] < 0.9, "a reviser that only copies is the classic failure"
    assert run.manifest["cost"]["unannotated_prompts"] == 16
    assert [row["stage"] for row in read_jsonl(run.folder / "train.jsonl")][-1] == "policy-2"


def test_seft_takes_its_drafts_from_vllm(train: Train) -> None:
    if not os.environ.get("SEFT_BENCH_VLLM_PYTHON"):
        pytest.skip("SEFT_BENCH_VLLM_PYTHON names no environment with vLLM: `make test-real`")
    few = [f"settings.{stage}.epochs=0.2" for stage in ("preliminary", "reviser", "policy")]
    run = train("smollm2-135m-seft", "name=seft-vllm", "engine=vllm", "settings.rounds=1", "settings.prompts=16", *few)
    revised = read_json(run.folder / "diagnostics.json")["revised-1"]["diagnostics"]
    print(revised)
    assert revised["drafts"] == 16
    (drafts,) = (run.folder / "stages").glob("drafts-1-*/drafts.jsonl")
    assert all(row["draft"].strip() for row in read_jsonl(drafts))


def test_a_checkpoint_loads_in_peft_and_transformers_and_answers(train: Train, smollm2: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from seft_bench.checkpoints.merging import merged_model

    checkpoint = train("smollm2-135m-dpo").checkpoints[-1]
    base = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, checkpoint)
    whole = merged_model(checkpoint, tmp_path / "merged").folder  # in float32: bfloat16 would lose
    merged = AutoModelForCausalLM.from_pretrained(whole, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    with torch.inference_mode():
        distance = (adapted(ids).logits.log_softmax(-1) - merged(ids).logits.log_softmax(-1)).abs().mean()
        answer = merged.generate(ids, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)
    print(f"mean distance of the merged model's log-probabilities {float(distance):.4f}; it answers: {text}")
    assert distance < 1e-4
    assert "Paris" in text


def test_a_checkpoint_answers_mtbench(train: Train, official_data: Path, tmp_path: Path) -> None:
    """Both turns of a few questions have an answer, and one ends by itself; the texts are printed, to be read."""
    from seft_bench.config import DecodingConfig
    from seft_bench.generators import Decoding
    from seft_bench.generators.transformers import TransformersGenerator
    from seft_bench.suites import load_suite

    checkpoint = train("smollm2-135m-dpo").checkpoints[-1]
    questions = [question for question in load_suite("mtbench").questions() if question.category != "coding"][::12]
    answers: list[Answer] = []
    greedy = Decoding("greedy", DecodingConfig(temperature=0.0), 160, 0)
    TransformersGenerator(checkpoint, "smollm2-dpo").answer(questions, greedy, answers.append)
    for question, answer in zip(questions, answers, strict=True):
        print(f"{question.turns}\n-> {answer.turns} {answer.finish_reasons}\n")
    assert all(text.strip() for answer in answers for text in answer.turns)
    ends = [reason for answer in answers for reason in answer.finish_reasons]
    assert "stop" in ends
