"""Our losses of drawn answers against the trainers of TRL, on recorded answers: value to 1e-5, gradient to 1e-4.

Both start with the same weights, answers and rewards. The trainers' own code masks, scales rewards, asks the reference,
and averages over two micro-batches; the second update of a batch is compared too, where ratios are cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs the extra `trl`")

from seft_bench.chat import load_tokenizer
from tests.recorded_samples import LIMIT, PROMPTS, REWARDS, job_of, online, recorded, run_of, update_on
from tests.tiny_model import make_tiny_model
from tests.trl_peers import TRAINER_SETTINGS, assert_same_gradients, gradients
from training.checkpoint import load_model

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("reference"), seed=5)


GRPO: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = (
    [({"loss_type": loss_type}, {}, {"loss_type": loss_type}) for loss_type in ("grpo", "dapo", "dr_grpo", "bnpo")]
    + [
        ({"epsilon": 0.1, "epsilon_high": 0.28}, {}, {"epsilon": 0.1, "epsilon_high": 0.28}),
        ({"beta": 0.3}, {}, {"beta": 0.3}),
        (
            {"beta": 0.3, "loss_type": "grpo", "ratio": "sequence"},
            {},
            {"beta": 0.3, "importance_sampling_level": "sequence"},
        ),
        ({"loss_type": "dr_grpo"}, {"advantages": "none"}, {"loss_type": "dr_grpo", "scale_rewards": "none"}),
        ({}, {"advantages": "batch"}, {"scale_rewards": "batch"}),
    ]
    + [
        ({"loss_type": loss_type, "beta": 0.1}, {"mask_truncated": True}, {"loss_type": loss_type, "beta": 0.1})
        for loss_type in ("grpo", "dapo", "dr_grpo", "bnpo")
    ]
)


@pytest.mark.parametrize(("settings", "drawing", "theirs"), GRPO)
def test_grpo(
    settings: dict[str, Any],
    drawing: dict[str, Any],
    theirs: dict[str, Any],
    tiny_model: Path,
    reference: Path,
    tmp_path: Path,
) -> None:
    from trl import GRPOConfig, GRPOTrainer

    if "ratio" in settings:
        theirs = {**theirs, "loss_type": "grpo"}
    asked = {**theirs, "mask_truncated_completions": drawing.get("mask_truncated", False)}
    trainer = trainer_of(GRPOTrainer, GRPOConfig, asked, tiny_model, reference, tmp_path)
    job = job_of("grpo", settings, online(updates=2, **drawing))
    assert_both_updates_agree(trainer, run_of(tiny_model, job, reference if settings.get("beta") else None), 1)


@pytest.mark.parametrize(("beta", "masked"), [(0.0, False), (0.05, False), (0.05, True)])
def test_rloo(beta: float, masked: bool, tiny_model: Path, reference: Path, tmp_path: Path) -> None:
    from trl import RLOOConfig, RLOOTrainer

    asked = {"beta": beta, "epsilon": 0.1, "mask_truncated_completions": masked}
    trainer = trainer_of(RLOOTrainer, RLOOConfig, asked, tiny_model, reference, tmp_path)
    drawing = online("leave_one_out", updates=2, reward_beta=beta, mask_truncated=masked)
    run = run_of(
        tiny_model, job_of("rloo", {"epsilon": 0.1, "epsilon_high": 0.1}, drawing), reference if beta else None
    )
    assert_both_updates_agree(trainer, run, 2)


def trainer_of(kind: Any, config: Any, asked: dict[str, Any], model: Path, reference: Path, tmp_path: Path) -> Any:
    """One of TRL's trainers, which draws the recorded answers."""
    from datasets import Dataset
    from trl.trainer.utils import add_fused_lm_head

    tokenizer = load_tokenizer(model)
    settings = {key: value for key, value in TRAINER_SETTINGS.items() if key != "max_length"}
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4}
    trainer = kind(
        model=load_model(model),
        reward_funcs=lambda completions, **_: list(REWARDS),
        args=config(
            output_dir=str(tmp_path / "trl"),
            max_completion_length=LIMIT,
            num_iterations=2,
            **sizes,
            **settings,
            **asked,
        ),
        train_dataset=Dataset.from_list(PROMPTS),
        processing_class=tokenizer,
    )
    if trainer.beta:
        trainer.ref_model = load_model(reference)
        add_fused_lm_head(trainer.ref_model)
    prompts = [tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"] for row in PROMPTS]
    drawn = [prompts[number // 4] for number in range(8)], recorded(tokenizer)
    texts = [[{"role": "assistant", "content": ""}] for _ in range(8)]
    trainer._generate = lambda _prompts: (
        (*drawn, None, texts, None, {}, None, None) if kind.__name__ == "GRPOTrainer" else (*drawn, texts)
    )
    trainer.current_gradient_accumulation_steps = 2
    trainer.model.train()
    return trainer


def assert_both_updates_agree(trainer: Any, run: Any, divided_by: int) -> None:
    """Compare the first update, and the second, in which the policy is another than the one that drew the answers."""
    from trl.trainer.utils import split_tensor_dict

    batch = trainer._generate_and_score_completions([PROMPTS[number // 4] for number in range(8)])
    parts = split_tensor_dict(batch, 2)
    for update in (1, 2):
        figures, ours = update_on(run)
        trainer.model.zero_grad()
        losses = [trainer._compute_loss(trainer.model, part) / divided_by for part in parts]
        torch.stack(losses).sum().backward()
        assert figures["loss"] == pytest.approx(sum(loss.item() for loss in losses), rel=1e-5, abs=1e-5)
        assert_same_gradients(ours, gradients(trainer.model))
        if update == 2:
            assert figures["clipped_share"] > 0, "ratios within the bounds everywhere would show nothing"
            return
        with torch.no_grad():
            for name, parameter in run.parameters.items():
                parameter -= 0.02 * parameter.grad.sign()
                parameter.grad = None
                trainer.model.get_parameter(name).copy_(parameter)
