"""Our data path and losses against TRL's own trainers: the same rows, the same model, one batch, to 1e-5.

TRL tokenises the rows itself, so equal losses also mean equal masks, one BOS and a learnt stop token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs the extra `trl`")

from seft_bench.chat import load_tokenizer
from tests.tiny_model import make_tiny_model
from tests.trl_peers import (
    ROWS,
    TRAINER_SETTINGS,
    assert_same_gradients,
    conversational,
    gradients,
    nll_of_answers,
    one_step,
    orpo_features,
    ours,
    trl_batch,
)
from training.checkpoint import load_model
from training.loop import TrainJob
from training.run import Run
from training.tokens import Example

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("reference"), seed=5)


def test_sft(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": row["prompt"], "answer": row["chosen"]} for row in ROWS]
    measured, our_gradients, examples = ours(tmp_path, tiny_model, "sft", rows)
    data = Dataset.from_list(
        [{"prompt": row["prompt"], "completion": [{"role": "assistant", "content": row["answer"]}]} for row in rows]
    )
    config = SFTConfig(output_dir=str(tmp_path / "trl"), **TRAINER_SETTINGS)
    trainer = SFTTrainer(
        model=load_model(tiny_model), args=config, train_dataset=data, processing_class=load_tokenizer(tiny_model)
    )
    batch = trl_batch(trainer)
    assert [
        row[: len(example.chosen.ids)].tolist() for row, example in zip(batch["input_ids"], examples, strict=True)
    ] == [list(example.chosen.ids) for example in examples]
    assert int((batch["labels"][:, 1:] != -100).sum()) == sum(example.chosen.labelled for example in examples)
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert measured["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert_same_gradients(our_gradients, gradients(trainer.model))


def test_dpo(tiny_model: Path, reference: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    measured, our_gradients, _ = ours(tmp_path, tiny_model, "dpo", ROWS, reference, beta=0.05)
    data = Dataset.from_list([conversational(row, "chosen", "rejected") for row in ROWS])
    config = DPOConfig(output_dir=str(tmp_path / "trl"), beta=0.05, **TRAINER_SETTINGS)
    trainer = DPOTrainer(
        model=load_model(tiny_model),
        ref_model=load_model(reference),
        args=config,
        train_dataset=data,
        processing_class=load_tokenizer(tiny_model),
    )
    loss = trainer.compute_loss(trainer.model, trl_batch(trainer))
    loss.backward()
    # TRL files its metrics by the model's mode, and a loaded model is in evaluation mode.
    logged = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    assert measured["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert abs(measured["loss"] - math.log(2)) > 0.01  # policy and reference differ, so the parity is not that of ln 2
    assert measured["reward_margin"] == pytest.approx(logged["rewards/margins"], abs=1e-5)
    assert measured["chosen_reward"] == pytest.approx(logged["rewards/chosen"], abs=1e-5)
    assert measured["reward_accuracy"] == pytest.approx(logged["rewards/accuracies"])
    assert_same_gradients(our_gradients, gradients(trainer.model))


def assert_alike_in_bfloat16(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Gradients point the same way and are as long, to what bfloat16's 8 bits leave over two layers."""
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert gradient.dtype == theirs[name].dtype == torch.bfloat16
        one, other = gradient.double().flatten(), theirs[name].double().flatten()
        assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.999, name
        assert one.norm().item() == pytest.approx(other.norm().item(), rel=0.02), name


def test_sft_and_dpo_in_bfloat16(tiny_model: Path, reference: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    tokenizer, bfloat16 = load_tokenizer(tiny_model), torch.bfloat16
    rows = [{"prompt": row["prompt"], "answer": row["chosen"]} for row in ROWS]
    measured, our_gradients, _ = ours(tmp_path, tiny_model, "sft", rows, precision="bfloat16")
    data = Dataset.from_list(
        [{"prompt": row["prompt"], "completion": [{"role": "assistant", "content": row["chosen"]}]} for row in ROWS]
    )
    trainer: Any = SFTTrainer(
        model=load_model(tiny_model, bfloat16),
        args=SFTConfig(output_dir=str(tmp_path / "trl"), **TRAINER_SETTINGS),
        train_dataset=data,
        processing_class=tokenizer,
    )
    loss = trainer.compute_loss(trainer.model, trl_batch(trainer))
    loss.backward()
    assert measured["loss"] == pytest.approx(loss.item(), rel=1e-3)
    assert_alike_in_bfloat16(our_gradients, gradients(trainer.model))

    measured, our_gradients, _ = ours(tmp_path, tiny_model, "dpo", ROWS, reference, precision="bfloat16", beta=0.05)
    trainer = DPOTrainer(
        model=load_model(tiny_model, bfloat16),
        ref_model=load_model(reference, bfloat16),
        args=DPOConfig(output_dir=str(tmp_path / "trl"), beta=0.05, **TRAINER_SETTINGS),
        train_dataset=Dataset.from_list([conversational(row, "chosen", "rejected") for row in ROWS]),
        processing_class=tokenizer,
    )
    loss = trainer.compute_loss(trainer.model, trl_batch(trainer))
    loss.backward()
    assert measured["loss"] == pytest.approx(loss.item(), rel=5e-3)
    assert_alike_in_bfloat16(our_gradients, gradients(trainer.model))


def orpo_trainer(model: Path, tmp_path: Path, rows: Sequence[dict[str, Any]]) -> Any:
    from datasets import Dataset
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    data = Dataset.from_list([conversational(row, "chosen", "rejected") for row in rows])
    config = ORPOConfig(output_dir=str(tmp_path / "trl"), beta=0.3, remove_unused_columns=False, **TRAINER_SETTINGS)
    return ORPOTrainer(model=load_model(model), args=config, train_dataset=data, processing_class=load_tokenizer(model))


def test_orpo(tiny_model: Path, tmp_path: Path) -> None:
    """The odds-ratio term is TRL's own.

    Its NLL also counts the prompt, ours the answer, so that term is made from TRL's labels.
    """
    measured, our_gradients, examples = ours(tmp_path, tiny_model, "orpo", ROWS, beta=0.3)
    trainer = orpo_trainer(tiny_model, tmp_path, ROWS)
    batch = trl_batch(trainer)
    assert int((batch["chosen_labels"][:, 1:] != -100).sum()) == sum(example.chosen.labelled for example in examples)
    chosen, rejected, *_, nll_with_prompt = trainer.concatenated_forward(trainer.model, batch)
    odds_terms, _, _, _, log_odds_ratio = trainer.odds_ratio_loss(chosen, rejected)
    nll = nll_of_answers(trainer.model, batch)
    loss = nll - odds_terms.mean()
    loss.backward()
    assert measured["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert measured["nll"] == pytest.approx(nll.item(), abs=1e-5)
    assert measured["log_odds_ratio"] == pytest.approx(log_odds_ratio.item(), abs=1e-5)
    assert (
        abs(nll_with_prompt.item() - nll.item()) > 0.01
    )  # the difference in definition is real, and said in orpo_loss
    assert_same_gradients(our_gradients, gradients(trainer.model))


def test_orpo_equals_the_whole_loss_of_trl_where_the_prompt_has_one_token(tiny_model: Path, tmp_path: Path) -> None:
    """With the prompt cut to one token, which nothing predicts, TRL's NLL over prompt and answer is ours."""
    trainer = orpo_trainer(tiny_model, tmp_path, ROWS)
    _, _, examples = ours(tmp_path, tiny_model, "orpo", ROWS)
    bare = [
        Example(
            *(
                sequence._replace(ids=sequence.ids[sequence.prompt_tokens - 1 :], prompt_tokens=1)
                for sequence in example.sequences
            )
        )
        for example in examples
    ]
    run = Run(load_model(tiny_model), bare, None, TrainJob(one_step(6), "orpo", {"beta": 0.3}))
    measured = run._forward_backward(range(6))
    loss, _ = trainer.get_batch_loss_metrics(trainer.model, trainer.data_collator(orpo_features(bare)))
    assert measured["loss"].item() == pytest.approx(loss.item(), abs=1e-5)
