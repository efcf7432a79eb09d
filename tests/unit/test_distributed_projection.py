"""Logits by chunks where processes share a model: never labelled tokens x vocabulary of them, and the same course."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.files import read_json, read_log, write_jsonl
from tests.several_processes import forked
from tests.tensor_sizes import LargestTensor
from tests.tiny_model import make_tiny_model
from training import projection
from training.distributed import ALONE, Processes
from training.loop import TrainJob, TrainSettings, train

VOCABULARY, MOST = 150_000, 1 << 22


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this module runs on one thread."""


def make_model(folder: Path, tied: bool) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tiny_model(folder, with_weights=False)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, tie_word_embeddings=tied, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of 30 tokens and more."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": f"What is {n}?", "chosen": "It is so. " * (6 + n), "rejected": "No. " * 10} for n in range(8)]
    write_jsonl(path, [{**row, "answer": row["chosen"]} for row in rows])
    return path


def trained(processes: Processes, model: Path, data: Path, out: Path, job: TrainJob) -> int:
    """Train; return the elements of the largest tensor that ever was."""
    with LargestTensor() as largest:
        train(model, data, out, job, processes=processes)
    return largest.elements


def job_of(loss: str, **given: Any) -> TrainJob:
    common = {"learning_rate": 1e-3, "max_steps": 2, "global_batch_size": 4, "micro_batch_size": 2}
    return TrainJob(TrainSettings(**common, device="cpu", report_to=[], **given), loss)


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_log(out / "train.jsonl")]


CASES: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "SFT": ("sft", False, {}),
    "DPO": ("dpo", False, {}),
    "SFT, tied": ("sft", True, {}),
    "DPO, LoRA": ("dpo", True, {"lora": {"rank": 2}}),
    "DPO, packed and checkpointed": ("dpo", True, {"padding_free": True, "gradient_checkpointing": True}),
}
"""Name -> (loss, tied embeddings, settings). DPO's reference is the start, whose first forward has no gradients."""
SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in list(CASES)[1:]]


@pytest.mark.parametrize("case", ["SFT", *SLOW])
def test_logits_never_exist_together_in_shards_either(
    case: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """27 rows of logits at a time, and no tensor is larger, while a micro-batch has 60 labelled tokens and more."""
    monkeypatch.setattr(projection, "MOST_LOGITS", {"cpu": MOST})
    loss, tied, given = CASES[case]
    model = make_model(tmp_path / "model", tied)
    trained(ALONE, model, data, tmp_path / "one", job_of(loss, **given))
    largest = forked(2, trained, model, data, tmp_path / "two", job_of(loss, sharding="fsdp", **given))
    assert 0.9 * MOST < max(largest) <= MOST
    labelled = read_json(tmp_path / "two" / "summary.json")["labelled_tokens"]
    assert labelled / 2 / 2 * VOCABULARY > 2 * MOST  # of a process's part of a step, which is one micro-batch
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5, abs=1e-5)
