"""Merging adapters into weights of bfloat16: what is kept, measured by hand, and who never takes a lossy merge."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seft_bench.checkpoints.merging import Kept, Tally, merge_adapter, merged_model, needs_float32
from seft_bench.config import validate
from seft_bench.errors import InputError
from seft_bench.files import read_json, write_json, write_jsonl
from seft_bench.generators import vllm_engine
from seft_bench.generators.conversations import Sampling
from seft_bench.generators.transformers import TransformersGenerator, load_causal_lm
from tests.tiny_model import make_tiny_model
from training.checkpoint import load_model
from training.loop import TrainJob, TrainSettings, train

IDS = torch.tensor([[0, 7, 30, 22, 9, 40]])
TINY, LARGE = 1e-4, 1.0
"""Sizes of B: updates far below half a unit in the last place of most weights, and far above it."""


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.Tensor(model.eval()(input_ids=IDS).logits).float()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in bfloat16, as nearly all on the hub are."""
    return in_bfloat16(make_tiny_model(tmp_path_factory.mktemp("base") / "base"))


def in_bfloat16(folder: Path) -> Path:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert read_json(folder / "config.json")["dtype"] == "bfloat16"
    return folder


def make_adapter(base: Path, folder: Path, size: float) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=size)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_update(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "tiny", TINY)


def by_peft(base: Path, adapter: Path) -> Any:
    """The model that was trained: peft's own, with the base in bfloat16 and the adapter beside it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter).eval()


def test_what_rounding_keeps_of_an_update_by_hand() -> None:
    """Above 1, bfloat16's numbers lie 2^-7 apart; half of it is a tie, which goes to the even one: 1 itself."""
    before = torch.ones(2, 2)
    update = torch.tensor([[2**-7, 2**-9], [0.0, 2**-8]])
    tally = Tally(torch.bfloat16)
    tally.add(before, before + update)
    kept = tally.kept()
    # In units of 2^-18 the squares are 16, 1, 0, 4: only the first is kept.
    assert kept.share == pytest.approx(16 / 21)
    assert kept.error == pytest.approx((5 / 21) ** 0.5)
    assert kept.loses
    assert Tally(torch.bfloat16).kept() == Kept(1.0, 0.0)


def test_tensors_add_up_as_one() -> None:
    one, two = Tally(torch.bfloat16), Tally(torch.bfloat16)
    before, merged = torch.full((4, 4), 0.7), torch.linspace(0.65, 0.75, 16).view(4, 4)
    one.add(before, merged)
    for row in range(4):
        two.add(before[row], merged[row])
    assert two.kept().share == pytest.approx(one.kept().share)
    assert two.kept().error == pytest.approx(one.kept().error)


def test_a_model_below_float32_keeps_its_adapter_beside_it(base: Path, tiny_update: Path) -> None:
    trained = logits(by_peft(base, tiny_update))
    loaded = load_causal_lm(tiny_update, "cpu", dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(logits(loaded), trained)


def test_a_merge_in_bfloat16_is_the_base_again(base: Path, tiny_update: Path) -> None:
    merged, kept = merge_adapter(load_model(base, torch.bfloat16), tiny_update)
    assert kept.share < 0.2
    assert kept.loses
    rounded, trained, untrained = (
        logits(model) for model in (merged.float(), load_model(tiny_update), load_model(base))
    )
    assert (rounded - untrained).norm() < 0.5 * (trained - untrained).norm()


def test_texts_of_an_unmerged_adapter_are_those_of_the_trained_model(base: Path, tmp_path: Path) -> None:
    """Through our own decoding loop, cache and all, in batches that shrink."""
    adapter = make_adapter(base, tmp_path / "adapter", 0.05)
    asked: list[Any] = [[{"role": "user", "content": f"Name {number} fish." * (number + 1)}] for number in range(6)]
    samplings = [Sampling(str(number), float(number % 2)) for number in range(6)]
    generator = TransformersGenerator(adapter, "m", device="cpu", batch_size=4)
    texts = []
    for model in (load_causal_lm(adapter, "cpu", dtype=torch.bfloat16), by_peft(base, adapter)):
        generator.model = model
        texts.append([done.text for done in generator.complete(asked, samplings, 12, 0)])
    assert texts[0] == texts[1]
    assert any(texts[0])
    generator.model = load_causal_lm(base, "cpu", dtype=torch.bfloat16)
    assert [done.text for done in generator.complete(asked, samplings, 12, 0)] != texts[0]


def test_auto_writes_float32_where_the_bases_format_loses(base: Path, tiny_update: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    done = merged_model(tiny_update, tmp_path / "whole")
    assert done.dtype == "float32"
    assert {tensor.dtype for tensor in load_file(done.folder / "model.safetensors").values()} == {torch.float32}
    assert read_json(done.folder / "config.json")["dtype"] == "float32"
    facts = read_json(done.folder / "checkpoint.json")["merged"]
    assert facts["kept"]["float32"] == {"share_kept": 1.0, "relative_error": 0.0}
    assert facts["kept"]["bfloat16"]["share_kept"] < 0.9
    [line] = done.notes()
    assert "merged in float32: bfloat16, the base's format, would keep" in line
    whole = AutoModelForCausalLM.from_pretrained(done.folder, dtype="auto")
    assert torch.allclose(logits(whole), logits(load_model(tiny_update)), atol=1e-6)
    assert merged_model(tiny_update, done.folder) == done
    assert needs_float32(done.folder)


def test_auto_stays_in_the_bases_format_where_that_keeps_the_update(base: Path, tmp_path: Path) -> None:
    done = merged_model(make_adapter(base, tmp_path / "adapter", LARGE), tmp_path / "whole")
    assert done.dtype == "bfloat16"
    assert done.kept["bfloat16"].share == pytest.approx(1, abs=0.01)
    assert done.notes() == []
    assert not needs_float32(done.folder)
    assert {tensor.dtype for tensor in load_file(done.folder / "model.safetensors").values()} == {torch.bfloat16}


def test_bfloat16_that_is_asked_for_is_written_and_its_loss_is_said(
    base: Path, tiny_update: Path, tmp_path: Path
) -> None:
    done = merged_model(tiny_update, tmp_path / "whole", "bfloat16")
    merged, kept = merge_adapter(load_model(base, torch.bfloat16), tiny_update)
    written = load_file(done.folder / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in merged.state_dict().items() if name in written)
    assert done.kept == {"bfloat16": kept}
    assert not needs_float32(done.folder)
    assert "it is another model than the one that was trained" in done.notes()[0]
    with pytest.raises(InputError, match="merged in bfloat16: name another folder, or remove it"):
        merged_model(tiny_update, done.folder, "float32")
    with pytest.raises(InputError, match="unknown number format 'int8'"):
        merged_model(tiny_update, tmp_path / "other", "int8")


def test_loading_for_training_in_bfloat16_says_what_it_loses(
    tiny_update: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_model(tiny_update)
    assert capsys.readouterr().err == ""
    load_model(tiny_update, torch.bfloat16)
    assert "is loaded merged in bfloat16, which keeps" in capsys.readouterr().err


@pytest.mark.parametrize("merged", [True, [], {"dtype": "float32"}, {"dtype": "float32", "kept": {"bfloat16": 1}}])
def test_a_checkpoint_json_of_somebody_elses_says_nothing(merged: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "checkpoint.json", {"merged": merged})
    assert not needs_float32(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_another_adapter_is_trained_over_a_start_merged_in_the_precision_of_training(
    precision: str, tiny_update: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So whoever loads the new adapter's base loads what training saw; what that lost is said."""
    lora = {"rank": 2, "alpha": 2, "target_modules": ["q_proj"]}
    given = {"learning_rate": 1e-3, "max_steps": 1, "global_batch_size": 2, "device": "cpu", "lora": lora}
    settings = validate(given | {"precision": precision}, TrainSettings, "training settings")
    rows = [{"prompt": [{"role": "user", "content": f"What is {n}?"}], "answer": "A fish."} for n in range(2)]
    write_jsonl(tmp_path / "sft.jsonl", rows)
    train(tiny_update, tmp_path / "sft.jsonl", tmp_path / "run", TrainJob(settings, "sft", checkpoints=1))
    assert read_json(tmp_path / "run" / "merged-base" / "config.json")["dtype"] == precision
    said = "it is another model than the one that was trained" in capsys.readouterr().err
    assert said == (precision == "bfloat16")


def test_vllm_in_this_process_is_told_float32_too(
    tiny_update: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where it would round float32 weights by itself."""
    opened: list[dict[str, Any]] = []
    engine_core = SimpleNamespace(shutdown=lambda: None)

    def llm(_folder: str, **settings: Any) -> Any:
        opened.append(settings)
        return SimpleNamespace(llm_engine=SimpleNamespace(engine_core=engine_core))

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=llm))
    monkeypatch.setattr(vllm_engine, "engine_version", lambda: "vllm 0")
    monkeypatch.setattr(vllm_engine, "_has_accelerator", lambda: True)
    for name in vllm_engine.SETTINGS:
        monkeypatch.setenv(name, "1")
    engine = vllm_engine.VLLMEngine()
    for folder in (base, merged_model(tiny_update, tmp_path / "whole").folder):
        engine.load(folder)
    assert [settings.get("dtype") for settings in opened] == [None, "float32"]
