"""Our losses against TRL's trainers: the same rows, the same model, one batch; value to 1e-5, gradient to 1e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs the extra `trl`")

from seft_bench.chat import load_tokenizer
from tests.tiny_model import make_tiny_model
from tests.trl_peers import ROWS, TRAINER_SETTINGS, assert_same_gradients, conversational, gradients, ours, trl_batch
from training.checkpoint import load_model

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
