"""Our losses against TRL's trainers: the same rows, the same model, one batch; value to 1e-5, gradient to 1e-4."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs the extra `trl`")

from seft_bench.chat import load_tokenizer
from seft_bench.files import read_jsonl
from tests.several_processes import forked
from tests.tiny_model import make_tiny_model, make_tiny_reward_model
from tests.trl_peers import (
    ROWS,
    TRAINER_SETTINGS,
    assert_same_gradients,
    conversational,
    gradients,
    one_step,
    ours,
    trl_batch,
)
from training.checkpoint import load_classifier, load_model
from training.distributed import Processes
from training.loop import train
from training.rewards import set_padding_token
from training.run import Run
from training.settings import TrainJob
from training.sharding import sum_gradients

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("reference"), seed=5)


WITH_REFERENCE: list[tuple[str, dict[str, float], dict[str, Any]]] = [
    ("dpo", {"beta": 0.05}, {"loss_type": ["sigmoid"], "beta": 0.05}),
    (
        "dpo",
        {"beta": 0.05, "nll_weight": 0.7},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.7], "beta": 0.05},
    ),
    ("dpo-hinge", {"beta": 0.05}, {"loss_type": ["hinge"], "beta": 0.05}),
    (
        "dpo-robust",
        {"beta": 0.05, "label_smoothing": 0.2},
        {"loss_type": ["robust"], "beta": 0.05, "label_smoothing": 0.2},
    ),
    (
        "dpo-exo",
        {"beta": 0.05, "label_smoothing": 0.01},
        {"loss_type": ["exo_pair"], "beta": 0.05, "label_smoothing": 0.01},
    ),
    ("dpo-norm", {"beta": 3}, {"loss_type": ["sigmoid_norm"], "beta": 3.0}),
    ("ld-dpo", {"beta": 0.05, "alpha": 0.3}, {"loss_type": ["sigmoid"], "beta": 0.05, "ld_alpha": 0.3}),
    ("ipo-mean", {"beta": 0.5}, {"loss_type": ["ipo"], "beta": 0.5}),
    ("apo-zero", {"beta": 0.05}, {"loss_type": ["apo_zero"], "beta": 0.05}),
    ("apo-down", {"beta": 0.05}, {"loss_type": ["apo_down"], "beta": 0.05}),
    ("nca", {"beta": 0.05}, {"loss_type": ["nca_pair"], "beta": 0.05}),
    ("sppo", {"beta": 0.5}, {"loss_type": ["sppo_hard"], "beta": 0.5}),
    (
        "discopop",
        {"beta": 0.05, "tau": 0.1},
        {"loss_type": ["discopop"], "beta": 0.05, "discopop_tau": 0.1},
    ),
]


@pytest.mark.parametrize(("name", "settings", "theirs"), WITH_REFERENCE)
def test_losses_with_a_reference(
    name: str, settings: dict[str, float], theirs: dict[str, Any], tiny_model: Path, reference: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    measured, our_gradients, _ = ours(tmp_path, tiny_model, name, ROWS, reference, **settings)
    trainer = DPOTrainer(
        model=load_model(tiny_model),
        ref_model=load_model(reference),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), **theirs, **TRAINER_SETTINGS),
        train_dataset=Dataset.from_list([conversational(row, "chosen", "rejected") for row in ROWS]),
        processing_class=load_tokenizer(tiny_model),
    )
    loss = trainer.compute_loss(trainer.model, trl_batch(trainer))
    loss.backward()
    assert measured["loss"] == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    assert_same_gradients(our_gradients, gradients(trainer.model))


WITHOUT_REFERENCE: list[tuple[str, dict[str, float], dict[str, Any]]] = [
    ("cpo", {"beta": 0.05, "nll_weight": 0.8}, {"loss_type": "sigmoid", "beta": 0.05, "cpo_alpha": 0.8}),
    (
        "simpo",
        {"beta": 2, "gamma_beta_ratio": 0.4},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.8, "cpo_alpha": 0.0},
    ),
    (
        "simpo",
        {"beta": 2, "gamma_beta_ratio": 0.4, "nll_weight": 0.5},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.8, "cpo_alpha": 0.5},
    ),
    ("slic", {"delta": 1, "nll_weight": 0.3}, {"loss_type": "hinge", "beta": 1.0, "cpo_alpha": 0.3}),
]


@pytest.mark.parametrize(("name", "settings", "theirs"), WITHOUT_REFERENCE)
def test_losses_without_a_reference(
    name: str, settings: dict[str, float], theirs: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    measured, our_gradients, _ = ours(tmp_path, tiny_model, name, ROWS, **settings)
    trainer = CPOTrainer(
        model=load_model(tiny_model),
        args=CPOConfig(output_dir=str(tmp_path / "trl"), remove_unused_columns=False, **theirs, **TRAINER_SETTINGS),
        train_dataset=Dataset.from_list([conversational(row, "chosen", "rejected") for row in ROWS]),
        processing_class=load_tokenizer(tiny_model),
    )
    loss, _ = trainer.get_batch_loss_metrics(trainer.model, trl_batch(trainer))
    loss.backward()
    assert measured["loss"] == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    assert_same_gradients(our_gradients, gradients(trainer.model))


def test_labelled_answers(tiny_model: Path, reference: Path, tmp_path: Path) -> None:
    """KTO with its divergence, whose mismatched answers TRL takes from the row before in a batch; and without it."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows = [
        {"prompt": row["prompt"], "answer": row["chosen" if number % 3 else "rejected"], "label": bool(number % 3)}
        for number, row in enumerate(ROWS)
    ]
    data = Dataset.from_list(
        [
            {**row, "completion": [{"role": "assistant", "content": row["answer"]}], "label": row["label"]}
            for row in rows
        ]
    ).remove_columns("answer")
    for name, kind in (("kto", "kto"), ("apo-zero-labelled", "apo_zero_unpaired")):
        settings = {"beta": 0.3, "desirable_weight": 0.5, "undesirable_weight": 2.0}
        measured, our_gradients, _ = ours(tmp_path, reference, name, rows, tiny_model, **settings)
        trainer = KTOTrainer(
            model=load_model(reference),  # the other way round: so the divergence of these rows is above 0
            ref_model=load_model(tiny_model),
            args=KTOConfig(
                output_dir=str(tmp_path / "trl"),
                loss_type=kind,
                per_device_train_batch_size=len(rows),
                **({"train_sampling_strategy": "sequential"} if kind == "kto" else {}),
                **settings,
                **TRAINER_SETTINGS,
            ),
            train_dataset=data,
            processing_class=load_tokenizer(tiny_model),
        )
        loss = trainer.compute_loss(trainer.model, trl_batch(trainer))
        loss.backward()
        assert measured["loss"] == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
        assert_same_gradients(our_gradients, gradients(trainer.model))
        if kind == "kto":
            logged = trainer._metrics["eval"]["kl"][-1]
            assert measured["kl"] == pytest.approx(logged, abs=1e-5)
            assert torch.tensor(logged) > 0, "a divergence that is cut at 0 would show nothing"


@pytest.mark.parametrize("centering", [0.0, 0.01])
def test_reward_models(centering: float, tmp_path: Path) -> None:
    """From a reward model whose rewards differ, in micro-batches and in two processes."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    start = make_tiny_reward_model(tmp_path / "start", seed=3)
    measured, our_gradients, examples = ours(tmp_path, start, "reward-model", ROWS, centering=centering)
    tokenizer, model = load_tokenizer(start), AutoModelForSequenceClassification.from_pretrained(start)
    set_padding_token(tokenizer, model, {example.chosen.ids[-1] for example in examples})
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path / "trl"), center_rewards_coefficient=centering or None, **TRAINER_SETTINGS
        ),
        train_dataset=Dataset.from_list([conversational(row, "chosen", "rejected") for row in ROWS]),
        processing_class=tokenizer,
    )
    batch = trl_batch(trainer)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    theirs, both = gradients(trainer.model), batch["attention_mask"].sum(dim=1).tolist()
    assert both == [len(pair[side].ids) for side in (0, 1) for pair in [one.sequences for one in examples]]
    assert measured["loss"] == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
    assert abs(loss.item() - math.log(2)) > 0.01, "rewards that do not differ would show nothing"
    assert_same_gradients(our_gradients, theirs)
    for value, found in forked(2, _shared_step, start, examples, centering):
        assert value == pytest.approx(loss.item(), rel=1e-5, abs=1e-5)
        assert_same_gradients({name: torch.tensor(gradient) for name, gradient in found.items()}, theirs)


def _shared_step(processes: Processes, start: Path, examples: Any, centering: float) -> tuple[float, dict[str, Any]]:
    """The loss of the global batch and its gradient, as each of several processes has them before its update."""
    torch.set_num_threads(1)  # threads of the process that this one was forked from are not here
    job = TrainJob(one_step(len(examples)), "reward-model", {"centering": centering})
    run = Run(load_classifier(start), examples, None, job, processes)
    measured = run._forward_backward(range(len(examples)))
    sum_gradients(run.parameters.values(), processes)
    found = {name: gradient.tolist() for name, gradient in gradients(run.model).items()}
    return processes.add_up(measured["loss"]).item(), found


def test_trl_reads_a_reward_model_of_ours(tiny_model: Path, tmp_path: Path) -> None:
    """It evaluates the folder by its own code, to the accuracy and the margin of our last measurement."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    held_out = {"validation": {"rows": 3, "every_steps": 10}, "max_steps": 10}
    settings = one_step(3).model_validate({**one_step(3).model_dump(exclude_none=True), **held_out})
    summary = train(tiny_model, path, tmp_path / "run", TrainJob(settings, "reward-model"))
    folder, rows = summary.checkpoints[-1], read_jsonl(tmp_path / "run" / "held_out_rows.jsonl")
    data = Dataset.from_list([conversational(row, "chosen", "rejected") for row in rows])
    trainer = RewardTrainer(
        model=str(folder),
        args=RewardConfig(output_dir=str(tmp_path / "trl"), per_device_eval_batch_size=len(rows), **TRAINER_SETTINGS),
        train_dataset=data,
        eval_dataset=data,
        processing_class=load_tokenizer(folder),
    )
    found, ours_found = trainer.evaluate(), (summary.validation or {})["last"]
    assert found["eval_loss"] == pytest.approx(ours_found["loss"], rel=1e-5, abs=1e-5)
    assert found["eval_margin"] == pytest.approx(ours_found["reward_margin"], rel=1e-4)
    assert found["eval_accuracy"] == pytest.approx(ours_found["reward_accuracy"])
