"""Adapters over a base in bfloat16 through real vLLM, against the same by transformers (`make test-vllm`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seft_bench.checkpoints.merging import needs_float32
from seft_bench.checkpoints.whole import WholeModels
from seft_bench.generators.conversations import Sampling
from seft_bench.stages.engines import OwnEngine, VLLMServerEngine
from tests.tiny_model import VLLM_HIDDEN_SIZE, make_tiny_model

pytestmark = pytest.mark.vllm
ASKED: list[Any] = [[{"role": "user", "content": f"{index}. Name a fish." + " And why?" * index}] for index in range(8)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose update is far below half a unit in the last place of its base's weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    base = make_tiny_model(folder / "base", seed=6, hidden_size=VLLM_HIDDEN_SIZE)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(base)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=3e-4)
    adapted.save_pretrained(folder / "adapter")
    return folder / "adapter"


def test_an_adapter_over_bfloat16_is_served_as_it_was_trained(adapter: Path, vllm_server: Any, tmp_path: Path) -> None:
    """Its likelihoods are transformers' to less than a tenth of what the adapter changes of the base's."""
    said: list[str] = []
    engine = VLLMServerEngine(vllm_server, WholeModels(tmp_path, said.append))
    lists = [[(asked, f"A pike, {index}.") for index, asked in enumerate(ASKED)]]
    found, expected, base = (
        [score.mean for score in who.score(model, lists)[0]]
        for who, model in ((engine, adapter), (OwnEngine(), adapter), (OwnEngine(), adapter.parent / "base"))
    )
    changed = max(abs(one - other) for one, other in zip(expected, base, strict=True))
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < changed / 10
    assert needs_float32(vllm_server.folder)
    assert "bfloat16, the base's format, would keep" in said[0]
    samplings = [Sampling(str(index), 0.0) for index in range(len(ASKED))]
    texts, own = (
        [done.text for done in who.generator(adapter, 8).complete(ASKED, samplings, 32, 0)]
        for who in (engine, OwnEngine())
    )
    assert texts == own
