"""LoRA: adapters as they start, are trained, saved as peft's folders, found again over their base, and merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seft_bench import checkpoints
from seft_bench.chat import load_tokenizer, stop_ids
from seft_bench.checkpoints.merging import merged_model
from seft_bench.config import validate
from seft_bench.errors import InputError
from seft_bench.files import read_json, write_json
from seft_bench.generators.transformers import load_causal_lm
from tests.tiny_model import make_tiny_model
from training.adapters import attach
from training.checkpoint import load_model
from training.loop import TrainJob, TrainSettings, train
from training.settings import LoraSettings

LORA = {"rank": 4, "alpha": 8, "dropout": 0.1}
IDS = torch.tensor([[0, 7, 30, 22, 9, 40]])  # without the padding token, whose embedding is zero


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this module runs on one thread."""


def job(loss: str = "sft", lora: dict[str, Any] | None = LORA, **changes: Any) -> TrainJob:
    given = {"learning_rate": 1e-2, "max_steps": 4, "global_batch_size": 8, "micro_batch_size": 8, "device": "cpu"}
    settings = validate({**given, "lora": lora, **changes}, TrainSettings, "training settings")
    return TrainJob(settings, loss, checkpoints=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    prompts = [[{"role": "user", "content": f"What is {number} plus two?"}] for number in range(12)]
    pairs = [{"prompt": prompt, "chosen": f"It is {n + 2}.", "rejected": "The dog"} for n, prompt in enumerate(prompts)]
    rows = {"dpo": pairs, "sft": [{"prompt": row["prompt"], "answer": row["chosen"]} for row in pairs]}
    for name, made in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return {name: folder / f"{name}.jsonl" for name in rows}


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that four steps have moved, over the tiny model."""
    return train(tiny_model, data["sft"], tmp_path_factory.mktemp("adapter") / "run", job()).checkpoints[-1]


@pytest.fixture
def copied(adapter: Path, tmp_path: Path) -> Path:
    """The same one, to be spoilt."""
    return Path(shutil.copytree(adapter, tmp_path / "copied"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.Tensor(model.eval()(input_ids=IDS).logits)


def changed(adapter: Path, **values: Any) -> None:
    write_json(adapter / "adapter_config.json", read_json(adapter / "adapter_config.json") | values)


# --- while training


def test_a_fresh_adapter_changes_nothing_and_is_all_that_is_trained(tiny_model: Path) -> None:
    plain = logits(load_model(tiny_model))
    adapted = attach(load_model(tiny_model), tiny_model, LoraSettings(), seed=3)
    assert torch.equal(logits(adapted), plain)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 7 * 2  # A and B, of seven linear layers, of two blocks
    assert all("lora_" in name for name in trained)
    assert not [name for name in trained if "lm_head" in name or "embed" in name]


def test_a_fresh_adapter_follows_from_its_seed_and_not_from_what_was_drawn_before(tiny_model: Path) -> None:
    def drawn(seed: int) -> torch.Tensor:
        adapted = attach(load_model(tiny_model), tiny_model, LoraSettings(), seed)
        return torch.cat([p.detach().flatten() for n, p in adapted.named_parameters() if "lora_A" in n])

    first = drawn(1)
    torch.manual_seed(99)
    assert torch.equal(drawn(1), first)
    assert not torch.equal(drawn(2), first)


def test_adapters_are_float32_over_a_bfloat16_base(tiny_model: Path) -> None:
    adapted = attach(load_model(tiny_model).to(torch.bfloat16), tiny_model, LoraSettings(), seed=0)
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in adapted.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert logits(adapted).isfinite().all()


def test_target_modules_that_are_not_there_or_are_the_models_ends_are_refused(tiny_model: Path) -> None:
    with pytest.raises(InputError, match="lora does not fit the model"):
        attach(load_model(tiny_model), tiny_model, LoraSettings(target_modules=["nowhere"]), seed=0)
    for end in ("lm_head", "embed_tokens"):
        with pytest.raises(InputError, match="embeddings and output layer cannot be target_modules"):
            attach(load_model(tiny_model), tiny_model, LoraSettings(target_modules=[end, "q_proj"]), seed=0)


def test_the_base_stays_and_neither_state_nor_checkpoint_holds_it(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    seen: list[set[str]] = []

    def look(step: int, _steps: int, _loss: float) -> None:
        if step == 3:
            seen.append(
                {name for path in (tmp_path / "run" / "state").glob("*/*.safetensors") for name in load_file(path)}
            )

    summary = train(tiny_model, data["sft"], tmp_path / "run", job(), on_step=look, save_state_every_steps=1)
    weights = {name for name in seen[0] if "proj" in name or "embed" in name or "norm" in name}
    assert weights
    assert all("lora_" in name for name in weights)
    assert sorted(path.name for path in summary.checkpoints[-1].iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "checkpoint.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert {path.name: path.read_bytes() for path in tiny_model.iterdir()} == before


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_killed_run_goes_on_to_the_same_adapter_bit_for_bit(
    stop: int, tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    """With dropout: its masks follow from seed and step."""

    class KilledError(BaseException):
        pass

    def kill(step: int, _steps: int, _loss: float) -> None:
        if step == stop:
            raise KilledError

    whole = train(tiny_model, data["dpo"], tmp_path / "whole", job("dpo"))
    with pytest.raises(KilledError):
        train(tiny_model, data["dpo"], tmp_path / "cut", job("dpo"), on_step=kill, save_state_every_steps=2)
    again = train(tiny_model, data["dpo"], tmp_path / "cut", job("dpo"), save_state_every_steps=2)
    assert (tmp_path / "cut" / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()
    for mine, theirs in zip(again.checkpoints, whole.checkpoints, strict=True):
        for path in theirs.iterdir():
            assert (mine / path.name).read_bytes() == path.read_bytes(), path.name


# --- where training starts


def test_the_same_settings_go_on_with_an_adapter_and_name_the_same_base(
    tiny_model: Path, adapter: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    plan = job("dpo", lora={**LORA, "dropout": 0.0}, learning_rate=1e-9)
    last = train(adapter, data["dpo"], tmp_path / "run", plan).checkpoints[-1]
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (last, adapter))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
    assert checkpoints.base_of(last) == tiny_model.resolve()
    assert not (tmp_path / "run" / "merged-base").exists()


@pytest.mark.parametrize("lora", [None, LORA, {**LORA, "rank": 2}])
def test_the_reference_of_dpo_is_the_start_adapter_included(
    lora: dict[str, Any] | None, adapter: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    """At the first step policy and reference are one, so the loss is log 2."""
    lora = lora and {**lora, "dropout": 0.0}
    train(adapter, data["dpo"], tmp_path / "run", job("dpo", lora=lora, max_steps=1), reference_folder=adapter)
    [row] = (json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines())
    assert row["loss"] == pytest.approx(0.693147, abs=1e-6)


def test_full_training_merges_an_adapter_and_saves_a_whole_model(
    adapter: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    plan = job(lora=None, learning_rate=1e-9, max_steps=1)
    last = train(adapter, data["sft"], tmp_path / "run", plan).checkpoints[-1]
    assert not checkpoints.is_adapter(last)
    assert torch.allclose(logits(load_model(last)), logits(load_model(adapter)), atol=1e-5)


def test_other_lora_settings_are_trained_over_the_merged_start_which_stays(
    adapter: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    plan = job(lora={"rank": 2, "alpha": 2, "target_modules": ["q_proj"]}, learning_rate=1e-9)
    last = train(adapter, data["sft"], tmp_path / "run", plan).checkpoints[-1]
    assert checkpoints.base_of(last) == (tmp_path / "run" / "merged-base").resolve()
    assert torch.allclose(logits(load_model(last)), logits(load_model(adapter)), atol=1e-5)


def test_an_alpha_of_its_own_is_another_adapter(adapter: Path, data: dict[str, Path], tmp_path: Path) -> None:
    """Tensors of the same shapes, and twice the effect."""
    last = train(adapter, data["sft"], tmp_path / "run", job(lora={**LORA, "alpha": 16})).checkpoints[-1]
    assert checkpoints.base_of(last).name == "merged-base"


# --- what others make of them


def test_plain_transformers_and_peft_load_an_adapter_and_a_merged_model(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    plain = logits(base)
    by_peft = logits(PeftModel.from_pretrained(base, adapter))
    assert (by_peft - plain).abs().max() > 0.01  # it learnt something
    ours = logits(load_model(adapter))
    assert torch.allclose(ours, by_peft, atol=1e-5)
    assert torch.allclose(logits(load_causal_lm(adapter, "cpu")), by_peft, atol=1e-5)
    assert torch.allclose(logits(AutoPeftModelForCausalLM.from_pretrained(adapter)), by_peft, atol=1e-5)
    whole = merged_model(adapter, tmp_path / "whole").folder
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(whole)), by_peft, atol=1e-5)
    assert AutoTokenizer.from_pretrained(whole).chat_template == AutoTokenizer.from_pretrained(tiny_model).chat_template
    assert not checkpoints.is_adapter(whole)


def test_a_merged_model_is_made_once_and_never_over_something_else(
    adapter: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = merged_model(adapter, tmp_path / "whole").folder
    stamp = (whole / "model.safetensors").stat().st_mtime_ns
    assert merged_model(adapter, whole).folder == whole
    assert (whole / "model.safetensors").stat().st_mtime_ns == stamp
    facts = read_json(whole / "checkpoint.json")
    assert (facts["step"], facts["merged_from"]) == (4, checkpoints.fingerprint(adapter))
    with pytest.raises(InputError, match="holds something else than"):
        merged_model(adapter, tiny_model)


# --- which base


def test_a_base_that_moved_is_found_where_the_adapter_is_told_and_the_fingerprint_stays(
    tiny_model: Path, copied: Path, tmp_path: Path
) -> None:
    before = checkpoints.fingerprint(copied)
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    changed(copied, base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"gone, and no whole model is there.*base_model_name_or_path"):
        load_model(copied)
    changed(copied, base_model_name_or_path=str(moved))
    assert checkpoints.fingerprint(copied) == before
    assert load_model(copied) is not None


def test_other_weights_under_the_bases_name_are_refused(copied: Path, tmp_path: Path) -> None:
    changed(copied, base_model_name_or_path=str(make_tiny_model(tmp_path / "other", seed=5)))
    for use in (load_model, checkpoints.fingerprint, load_causal_lm):
        with pytest.raises(InputError, match="was trained over other weights than"):
            use(copied)


def test_a_foreign_adapters_base_counts_in_its_fingerprint(copied: Path, tiny_model: Path, tmp_path: Path) -> None:
    (copied / "checkpoint.json").unlink()
    before = checkpoints.fingerprint(copied)
    changed(copied, base_model_name_or_path=str(make_tiny_model(tmp_path / "other", seed=5)))
    assert checkpoints.fingerprint(copied) != before


def test_an_adapter_without_tokenizer_has_its_bases(copied: Path) -> None:
    for path in [*copied.glob("tokenizer*"), copied / "chat_template.jinja"]:
        path.unlink()
    assert load_tokenizer(copied).chat_template


def test_an_adapters_answers_end_where_its_bases_do(copied: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Peft saves no generation_config.json, which may name further stop tokens."""
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    changed(copied, base_model_name_or_path=str(base))
    write_json(base / "generation_config.json", {"eos_token_id": [1, 77]})
    assert 77 in stop_ids(load_tokenizer(copied))


# --- refused


def test_pickled_adapters_whole_models_beside_them_and_other_kinds_are_refused(copied: Path) -> None:
    weights = copied / "adapter_model.safetensors"
    shutil.copy(weights, copied / "model.safetensors")
    with pytest.raises(InputError, match=r"an adapter .* and weights of a whole model"):
        load_model(copied)
    (copied / "model.safetensors").unlink()
    weights.rename(copied / "adapter_model.bin")
    with pytest.raises(InputError, match=r"only adapter_model\.bin, which could run code"):
        load_model(copied)
    changed(copied, peft_type="IA3")
    with pytest.raises(InputError, match="of kind IA3: only LoRA adapters"):
        load_model(copied)


def test_an_adapter_that_lacks_a_tensor_or_has_one_too_many_is_refused(copied: Path) -> None:
    """Peft itself only warns."""
    weights = copied / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, weights)
    with pytest.raises(InputError, match="1 tensors of it and of the model's differ"):
        load_model(copied)
    save_file({**tensors, name.replace("layers.0", "layers.7"): tensors[name].clone()}, weights)
    with pytest.raises(InputError, match="1 tensors of it and of the model's differ"):
        load_model(copied)
    save_file({**tensors, name: torch.zeros(3, 3)}, weights)
    with pytest.raises(InputError, match="cannot be laid over its base"):
        load_model(copied)
    save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, weights)
    with pytest.raises(InputError, match=r"adapter .* cannot be used: 1 \(.*\) with NaN or infinite values"):
        load_model(copied)
