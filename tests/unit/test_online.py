"""Runs that draw their own answers: what they learn, how they go on, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.chat import load_tokenizer
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Base, Model, Row
from seft_bench.stages import StageRun, Workshop, run_stage, run_stages
from seft_bench.stages.engines import needed_engine
from seft_bench.stages.online import open_helpers
from tests.recorded_samples import LENGTHS, REWARDS, helpers_of, job_of, online, recorded, run_of, update_on
from tests.several_processes import forked
from tests.tiny_model import make_tiny_model
from training.checkpoint import load_model
from training.distributed import Processes
from training.logprobs import score_answers
from training.loop import train
from training.methods import build_stages
from training.stages import Train

DRAWN = sum(LENGTHS)
POLICY = {"learning_rate": 5e-3, "max_steps": 6, "global_batch_size": 16, "micro_batch_size": 8, "max_length": 64}


def settings(**given: Any) -> dict[str, Any]:
    policy = POLICY | given.pop("policy", {})
    return {"init": "base", "samples": 4, "drafts": {"max_new_tokens": 8}, "policy": policy, **given}


def stage_of(method: str = "grpo", checkpoints: int = 1, **given: Any) -> Train:
    stage = build_stages(method, settings(**given), checkpoints)[-1]
    assert stage.kind == "train"
    return stage


@pytest.fixture
def shop(tmp_path: Path, tiny_model: Path) -> Workshop:
    write_jsonl(
        tmp_path / "data" / "prompts.jsonl",
        [{"prompt": [{"role": "user", "content": f"What is {number}?"}]} for number in range(12)],
    )
    return Workshop(tmp_path / "stages", tiny_model, tmp_path / "data", seed=0)


def log_of(run: StageRun) -> list[Row]:
    return read_jsonl(run.folder / "train.jsonl")


# What a step learns


def test_a_first_update_by_hand(tiny_model: Path) -> None:
    """Ratio 1 and no divergence exactly; the loss is minus the mean advantage: dr_grpo's over 8 answers of 6 tokens."""
    job = job_of("grpo", {"beta": 0.5, "loss_type": "dr_grpo"}, online("none"))
    run = run_of(tiny_model, job, reference=tiny_model)
    figures, _ = update_on(run)
    assert figures["clipped_share"] == 0.0
    assert figures["kl"] == pytest.approx(0.0, abs=1e-12)
    groups = [[-1.5, 0.25, None, -0.5], [2.0, -1.0, 0.0, 0.75]]
    means = [sum(r for r in group if r is not None) / sum(r is not None for r in group) for group in groups]
    told = [0.0 if reward is None else reward - means[number // 4] for number, reward in enumerate(REWARDS)]
    expected = -sum(advantage * length for advantage, length in zip(told, LENGTHS, strict=True)) / (8 * 6)
    assert figures["loss"] == pytest.approx(expected, abs=1e-6)
    assert figures["reward"] == pytest.approx(sum(r for r in REWARDS if r is not None) / 7)
    assert (figures["ungraded_share"], figures["truncated_share"]) == (1 / 8, 1 / 8)
    assert figures["answer_tokens"] == DRAWN / 8
    assert run.summary() == {"prompts": 2, "answers": 8, "tokens": DRAWN}
    assert run.labelled_tokens == DRAWN


def test_the_ids_that_were_drawn_are_learnt(tiny_model: Path) -> None:
    """They are not the ids of their own text, and the stop token is learnt where the answer stopped."""
    run = run_of(tiny_model, job_of("grpo", {}, online()))
    update_on(run)
    assert run.drawn is not None
    learnt = [answer.ids[answer.prompt_tokens :].tolist() for answer in run.drawn.answers]
    assert learnt == recorded(load_tokenizer(tiny_model))
    assert run.drawn.stopped == [True] * 7 + [False]


def test_truncated_answers_can_be_left_out(tiny_model: Path) -> None:
    run = run_of(tiny_model, job_of("grpo", {}, online(mask_truncated=True)))
    update_on(run)
    assert run.drawn is not None
    assert run.drawn.totals.tokens == DRAWN - LENGTHS[-1]
    assert run.drawn.mask([6, 7]).sum(dim=1).tolist() == [LENGTHS[-2], 0]


def test_groups_that_are_graded_alike_are_counted(tiny_model: Path) -> None:
    rewards = [1.0, None, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    helpers = helpers_of(load_tokenizer(tiny_model), rewards)
    figures, _ = update_on(run_of(tiny_model, job_of("grpo", {}, online()), helpers=helpers))
    assert figures["alike_share"] == 0.5


def test_without_any_grade_nothing_is_learnt(tiny_model: Path) -> None:
    helpers = helpers_of(load_tokenizer(tiny_model), [None] * 8)
    with pytest.raises(InputError, match="none of the 8 answers of the first batch has a grade"):
        update_on(run_of(tiny_model, job_of("grpo", {}, online()), helpers=helpers))


@pytest.mark.parametrize("kind", ["grpo", "batch", "rloo"])
def test_two_processes_learn_what_one_does(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    """Also where a process has no prompt in a batch: three of them have two."""
    reference = make_tiny_model(tmp_path / "reference", seed=5)
    drawing = (
        online("leave_one_out", reward_beta=0.1) if kind == "rloo" else online("batch" if kind == "batch" else "group")
    )
    job = job_of("rloo" if kind == "rloo" else "grpo", {} if kind == "rloo" else {"beta": 0.2}, drawing)

    def learn(processes: Processes) -> tuple[dict[str, float], list[float], list[int]]:
        from training.sharding import sum_gradients

        run = run_of(tiny_model, job, reference, processes)
        run.step += 1
        measured = run._forward_backward([0, 1])
        sum_gradients(run.parameters.values(), processes)
        values = processes.add_up(torch.stack(list(measured.values()))).tolist()
        flat = torch.cat([parameter.grad.flatten() for parameter in run.parameters.values()])
        return dict(zip(measured, values, strict=True)), flat.tolist(), [run.tokens, run.sampled_tokens]

    figures, gradient, counts = learn(Processes())
    for theirs in forked(3 if kind == "grpo" else 2, learn):
        assert theirs[0] == pytest.approx(figures, abs=1e-6)
        torch.testing.assert_close(torch.tensor(theirs[1]), torch.tensor(gradient), rtol=1e-4, atol=1e-6)
        assert theirs[2] == counts


# Stages


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_the_mean_reward_rises(method: str, shop: Workshop) -> None:
    """Over 16 steps the answers become likelier under the grader, by more than batches differ (0.1)."""
    stage = stage_of(
        method, policy={"max_steps": 16, "global_batch_size": 48, "micro_batch_size": 48, "learning_rate": 1e-2}
    )
    rows = log_of(run_stage(stage, {}, shop))
    first, last = ([row["reward"] for row in part] for part in (rows[:4], rows[-4:]))
    assert min(last) > max(first) + 0.2


def test_a_killed_run_goes_on_to_the_same_bits(shop: Workshop, tiny_model: Path, tmp_path: Path) -> None:
    """Killed behind each step: in the middle of a batch of two updates, it goes back to where that was drawn."""
    stage = stage_of(updates=2, beta=0.1, policy={"max_steps": 5})
    whole = run_stage(stage, {}, shop)
    weights = (whole.model / "model.safetensors").read_bytes()
    for killed_at in (1, 3, 4):
        out = tmp_path / f"killed-{killed_at}"
        for stops in (killed_at, 99):

            def on_step(step: int, steps: int, figures: Row, stops: int = stops) -> None:
                if step == stops:
                    raise KeyboardInterrupt

            try:
                resume(stage, shop, tiny_model, whole.folder / "training_rows.jsonl", out, on_step)
            except KeyboardInterrupt:
                assert stops == killed_at
        assert (out / "checkpoints" / whole.model.name / "model.safetensors").read_bytes() == weights
        assert read_jsonl(out / "train.jsonl") == log_of(whole)


def resume(stage: Train, shop: Workshop, model: Path, rows: Path, out: Path, on_step: Any) -> None:
    with open_helpers(stage, lambda source: model, shop) as helpers:
        train(
            model,
            rows,
            out,
            stage.job(shop.seed),
            reference_folder=model,
            on_step=on_step,
            save_state_every_steps=1,
            helpers=helpers,
        )


def test_the_record_says_what_was_drawn(shop: Workshop) -> None:
    run = run_stage(stage_of(policy={"max_steps": 2}), {}, shop)
    answers = sum(row["answer_tokens"] * 16 for row in log_of(run))
    assert run.record["tokens_generated"] == round(answers)
    assert (run.record["prompts"], run.record["unannotated_prompts"], run.record["samples_graded"]) == (8, 8, 32)


def test_a_judge_grades_and_is_part_of_the_name(shop: Workshop) -> None:
    by_judge = stage_of(grader="rubric")
    assert by_judge.inputs.keys() == {"model", "data"}
    assert stage_of().inputs.keys() == {"model", "data", "grader"}
    assert by_judge.settings_row() != stage_of().settings_row()
    assert stage_of(grader="start-likelihood").grader == Base()
    assert stage_of(grader="likelihood:mine").grader == Model("mine")


def test_an_adapter_is_trained_against_a_whole_reference(shop: Workshop) -> None:
    run = run_stage(stage_of(beta=0.1, policy={"max_steps": 2, "lora": {"rank": 2}}), {}, shop)
    assert (run.model / "adapter_model.safetensors").exists()
    assert log_of(run)[0]["kl"] == 0.0


def test_rows_without_padding_give_the_same_loss(tiny_model: Path) -> None:
    padded, _ = update_on(run_of(tiny_model, job_of("grpo", {"loss_type": "grpo"}, online("none"))))
    packed, _ = update_on(run_of(tiny_model, job_of("grpo", {"loss_type": "grpo"}, online("none"), padding_free=True)))
    assert packed == pytest.approx(padded, abs=1e-6)


def test_the_grade_is_the_mean_log_probability(shop: Workshop, tiny_model: Path) -> None:
    prompt: Any = [{"role": "user", "content": "What is 3?"}]
    with open_helpers(stage_of(), lambda source: tiny_model, shop) as helpers:
        assert helpers is not None
        grades = helpers.grade([(prompt, "It is five."), (prompt, " ")])
    [score] = score_answers(tiny_model, None, [(prompt, "It is five.")])
    assert grades == [pytest.approx(score.mean), None]


def test_answers_are_drawn_from_the_policy_itself(shop: Workshop, tiny_model: Path) -> None:
    """Frequencies of first tokens are the model's own probabilities, and equal keys draw equal answers."""
    model = load_model(tiny_model).eval()
    prompt = [1, 70, 80, 90]
    keys = [str(number) for number in range(3000)]
    with (
        open_helpers(stage_of(drafts={"max_new_tokens": 1}), lambda source: tiny_model, shop) as helpers,
        torch.no_grad(),
    ):
        assert helpers is not None
        drawn = helpers.draw(model, [prompt] * len(keys), keys)
        again = helpers.draw(model, [prompt] * 10, keys[:10])
        chances = model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(0)
    assert again == drawn[:10]
    found = torch.bincount(torch.tensor([ids[0] for ids in drawn]), minlength=len(chances)) / len(keys)
    assert (found - chances).abs().max() < 4 * (chances.max() * (1 - chances.max()) / len(keys)).sqrt()


# What is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"samples": 1}, "samples"),
        ({"samples": 5}, "multiple of samples: got 16 and 5"),
        ({"policy": {"max_length": 8}}, "must leave prompts room"),
        ({"policy": {"validation": {"rows": 2}}}, "no held-out loss"),
        ({"policy": {"sharding": "fsdp"}}, "fsdp cannot draw"),
        ({"loss_type": "mean"}, "loss_type"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"beta": -0.1}, "beta"),
        ({"updates": 0}, "updates"),
        ({"grader": "policy-likelihood"}, "give start-likelihood"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_stages("grpo", settings(**given), 1)


def test_vllm_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(InputError, match="vllm cannot draw for stage 'grpo'"):
        needed_engine("vllm", build_stages("grpo", {}, 1))


@pytest.mark.parametrize(
    ("grader", "message"),
    [
        ("local-openai", "asks a server, and an online method asks in every step"),
        ("rubric", "What is 0"),
        ("no-such-judge", "grader: .*no-such-judge"),
    ],
)
def test_judges_that_cannot_grade_are_refused_before_anything_is_trained(
    grader: str, message: str, shop: Workshop
) -> None:
    with pytest.raises(InputError, match=message):
        run_stages([stage_of(grader=grader)], shop)
    assert not list(shop.folder.glob("grpo-*"))


def test_prompts_that_leave_answers_no_room_are_dropped(shop: Workshop) -> None:
    with pytest.raises(InputError, match="12 of 12 rows"):
        run_stage(stage_of(policy={"max_length": 12}), {}, shop)


def test_a_judge_grades_the_answers_of_all_processes(shop: Workshop, tiny_model: Path) -> None:
    """The rubric grades the tinyworld's prompts; each process gets the grades of its own answers."""
    from seft_bench.tinyworld.data_sets import prompt_rows

    prompts = [row["prompt"] for row in prompt_rows(0, 3)]

    def grades(processes: Processes) -> list[float | None]:
        alone = Workshop(shop.folder, shop.base, shop.data, 0, processes=processes)
        with open_helpers(stage_of(grader="rubric"), lambda source: tiny_model, alone) as helpers:
            assert helpers is not None
            mine = prompts[processes.rank :: processes.size]
            return list(helpers.grade([(prompt, "1 2 3") for prompt in mine]))

    whole = grades(Processes())
    assert all(grade is not None for grade in whole)
    first, second = forked(2, grades)
    assert (first, second) == (whole[0::2], whole[1::2])


def test_a_stage_in_two_processes_says_what_one_says(shop: Workshop, tmp_path: Path) -> None:
    stage = stage_of("rloo", policy={"max_steps": 3, "global_batch_size": 12})
    alone = run_stage(stage, {}, shop)

    def run(processes: Processes) -> Row:
        folder = tmp_path / "together"
        return dict(run_stage(stage, {}, Workshop(folder, shop.base, shop.data, 0, processes=processes)).record)

    first, second = forked(2, run)
    assert first == second
    for key in ("tokens_trained", "tokens_generated", "prompts", "samples_graded", "steps"):
        assert first[key] == alone.record[key], key
    [together] = (tmp_path / "together").glob("rloo-*/train.jsonl")
    for theirs, ours in zip(read_jsonl(together), log_of(alone), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-5)
