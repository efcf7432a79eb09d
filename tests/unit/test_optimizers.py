"""Optimizers by name: AdamW in 8 bits through bitsandbytes, what it cannot do, and a killed run that goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from training.loop import TrainJob, train
from training.optimizers import build_optimizer
from training.settings import TrainSettings

EIGHT_BIT = {"learning_rate": 1e-3, "max_steps": 8, "global_batch_size": 4, "optimizer": "adamw_8bit", "device": "cpu"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"precision": "bfloat16"}, "adamw_8bit is of float32 weights"),
        ({"sharding": "fsdp"}, "adamw_8bit cannot be sharded"),
        ({"optimizer": "sgd"}, "Input should be 'adamw' or 'adamw_8bit'"),
    ],
)
def test_what_eight_bits_cannot_do_is_refused(wrong: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainSettings.model_validate(EIGHT_BIT | wrong)


def test_adapters_over_bfloat16_may_have_eight_bits() -> None:
    assert TrainSettings.model_validate(EIGHT_BIT | {"precision": "bfloat16", "lora": {}}).optimizer == "adamw_8bit"


def test_a_missing_library_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(InputError, match=r"needs bitsandbytes: pip install 'seft-bench\[bitsandbytes\]'"):
        build_optimizer({"w": torch.nn.Parameter(torch.ones(2, 2))}, TrainSettings.model_validate(EIGHT_BIT))


class Killed(Exception):
    """Ends a run as a kill would, between two steps."""


def kill(step: int, *_: object) -> None:
    if step == 5:
        raise Killed


def test_a_run_in_eight_bits_learns_and_goes_on_bit_for_bit(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra `bitsandbytes`")
    data = tmp_path / "data.jsonl"
    answers = [{"prompt": [{"role": "user", "content": f"Say {n}."}], "answer": f"It is {n}."} for n in range(12)]
    write_jsonl(data, answers)
    job = TrainJob(TrainSettings.model_validate(EIGHT_BIT))
    train(tiny_model, data, tmp_path / "whole", job, save_state_every_steps=2)
    with pytest.raises(Killed):
        train(tiny_model, data, tmp_path / "killed", job, save_state_every_steps=2, on_step=kill)
    saved = [load_file(file) for file in (tmp_path / "killed" / "state").rglob("*.safetensors")]
    moments = {name: tensor.dtype for part in saved for name, tensor in part.items() if "/state1/" in name}
    assert moments["optimizer/state1/model.embed_tokens.weight"] == torch.uint8
    assert moments["optimizer/state1/model.norm.weight"] == torch.float32
    train(tiny_model, data, tmp_path / "killed", job, save_state_every_steps=2)
    rows = read_jsonl(tmp_path / "whole" / "train.jsonl")
    assert read_jsonl(tmp_path / "killed" / "train.jsonl") == rows
    assert rows[-1]["loss"] < rows[0]["loss"]
    whole, killed = (
        load_file(tmp_path / name / "checkpoints" / "step-000008" / "model.safetensors") for name in ("whole", "killed")
    )
    assert all(torch.equal(killed[name], tensor) for name, tensor in whole.items())
