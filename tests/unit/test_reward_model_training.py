"""Reward models: from a causal language model to a folder that transformers reads, killed and resumed on the way."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.chat import assistant, conversation_ids, load_tokenizer
from seft_bench.checkpoints.classifiers import is_reward_model
from seft_bench.config import validate
from seft_bench.errors import InputError
from seft_bench.files import write_jsonl
from tests.several_processes import forked
from tests.tiny_model import make_tiny_model
from training.adapters import attach
from training.checkpoint import load_classifier
from training.distributed import ALONE, Processes
from training.loop import OnStep, TrainJob, TrainSettings, TrainSummary, train
from training.memory import estimate_memory
from training.probe import Parameters, count_parameters, shape_of
from training.rewards import set_padding_token
from training.settings import LoraSettings

PAIRS = 26


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this module runs on one thread."""


def pair(number: int) -> dict[str, Any]:
    prompt = [{"role": "user", "content": f"What is {number} plus two{' please' * (number % 5)}?"}]
    return {"prompt": prompt, "chosen": f"It is {number + 2}.", "rejected": "The lazy dog" + " jumps" * (number % 7)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    write_jsonl(path, [pair(number) for number in range(PAIRS)])
    return path


def job(centering: float = 0.01, checkpoints: int = 2, **changes: Any) -> TrainJob:
    given = {"learning_rate": 3e-3, "max_steps": 8, "global_batch_size": 9, "micro_batch_size": 9, "device": "cpu"}
    settings = validate({**given, "report_to": [], **changes}, TrainSettings, "training settings")
    return TrainJob(settings, "reward-model", {"centering": centering}, checkpoints=checkpoints, seed=3)


def rows(out: Path, log: str = "train.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / log).read_text().splitlines()]


def rewards_by_transformers(folder: Path, model: Any) -> list[float]:
    """Rewards of six answers in one padded batch, as anyone reads them who knows nothing of us."""
    tokenizer = load_tokenizer(folder)
    texts = [pair(number)[side] for number in range(3) for side in ("chosen", "rejected")]
    ids = [conversation_ids(tokenizer, [*pair(0)["prompt"], assistant(text)]) for text in texts]
    batch = tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")
    assert (batch["attention_mask"] == 0).any(), "nothing is padded"
    with torch.no_grad():
        padded = model(**batch).logits[:, 0].tolist()
        alone = [model(input_ids=torch.tensor([one])).logits[0, 0].item() for one in ids]
    assert padded == pytest.approx(alone, abs=1e-5)
    return padded


def test_a_causal_model_becomes_a_reward_model_that_transformers_reads(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """The tiny tokenizer pads by its stop token, in front of which transformers would read the reward."""
    from transformers import AutoModelForSequenceClassification

    validation = {"rows": 5, "every_steps": 4}
    summary = train(tiny_model, data, tmp_path, job(max_steps=24, validation=validation))
    first, *_, last = rows(tmp_path)
    assert first["loss"] == math.log(2) or first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert (first["reward_accuracy"], first["chosen_reward"]) == (0.5, 0.0)
    assert last["loss"] < 0.2
    assert summary.validation is not None
    assert summary.validation["last"]["reward_accuracy"] > 0.9
    folder = summary.checkpoints[-1]
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert (folder / "model.safetensors").exists()
    assert not list(folder.glob("*.bin"))
    tokenizer = load_tokenizer(folder)
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.num_labels == 1
    found = rewards_by_transformers(folder, loaded)
    assert all(good > poor for good, poor in zip(found[::2], found[1::2], strict=True))


def test_training_reads_the_reward_where_transformers_does(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """The last step's loss, computed again by transformers from the checkpoint of the step before."""
    from transformers import AutoModelForSequenceClassification

    batch = {"global_batch_size": PAIRS, "micro_batch_size": PAIRS}
    summary = train(tiny_model, data, tmp_path, job(checkpoints=8, **batch))
    folder = summary.checkpoints[-2]
    tokenizer, model = load_tokenizer(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    read = []
    for side in ("chosen", "rejected"):
        conversations = [[*pair(n)["prompt"], assistant(pair(n)[side])] for n in range(PAIRS)]
        ids = [conversation_ids(tokenizer, one) for one in conversations]
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        with torch.no_grad():
            read.append(model(**batch).logits[:, 0])
    chosen, rejected = read
    loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean() + 0.01 * ((chosen + rejected) ** 2).mean()
    assert rows(tmp_path)[-1]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert rows(tmp_path)[-1]["reward_margin"] == pytest.approx((chosen - rejected).mean().item(), rel=1e-5)


def test_micro_batches_change_nothing(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    for size in (9, 2):
        train(tiny_model, data, tmp_path / str(size), job(micro_batch_size=size))
    for whole, parts in zip(rows(tmp_path / "9"), rows(tmp_path / "2"), strict=True):
        assert parts == pytest.approx(whole, rel=1e-4, abs=1e-6)


def train_it(processes: Processes, model: Path, data: Path, out: Path, plan: TrainJob) -> TrainSummary:
    return train(model, data, out, plan, processes=processes)


@pytest.mark.parametrize("sharding", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_two_processes_train_as_one_does(sharding: str, tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """Batches of 9 and of 8, in two parts each, and what is held out in two as well."""
    plan = job(sharding=sharding, micro_batch_size=3, validation={"rows": 5, "every_steps": 4})
    train_it(ALONE, tiny_model, data, tmp_path / "one", plan)
    forked(2, train_it, tiny_model, data, tmp_path / "two", plan)
    for log in ("train.jsonl", "validation.jsonl"):
        for one, two in zip(rows(tmp_path / "one", log), rows(tmp_path / "two", log), strict=True):
            assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


class Killed(BaseException):
    """Stands for a signal."""


def kill_after(step: int) -> OnStep:
    def on_step(done: int, _steps: int, _figures: dict[str, Any]) -> None:
        if done == step:
            raise Killed

    return on_step


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_a_killed_run_goes_on_bit_for_bit(
    lora: dict[str, int] | None, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    plan = job(lora=lora, validation={"rows": 5, "every_steps": 2})
    whole = train(tiny_model, data, tmp_path / "whole", plan)
    with pytest.raises(Killed):
        train(tiny_model, data, tmp_path / "killed", plan, on_step=kill_after(5), save_state_every_steps=2)
    resumed = train(tiny_model, data, tmp_path / "killed", plan, save_state_every_steps=2)
    for log in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / "killed" / log).read_bytes() == (tmp_path / "whole" / log).read_bytes()
    for one, other in zip(whole.checkpoints, resumed.checkpoints, strict=True):
        files = sorted(path.name for path in one.iterdir())
        assert files == sorted(path.name for path in other.iterdir())
        assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_an_adapter_brings_its_layer_of_rewards(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """Ours and peft's own way of loading it agree, in the order of the answers and to the figure."""
    from peft import AutoPeftModelForSequenceClassification

    summary = train(tiny_model, data, tmp_path, job(max_steps=24, lora={"rank": 4, "alpha": 8}))
    folder = summary.checkpoints[-1]
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert (settings["task_type"], "score" in settings["modules_to_save"]) == ("SEQ_CLS", True)
    assert not (folder / "config.json").exists()
    assert is_reward_model(folder)
    assert rows(tmp_path)[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert rows(tmp_path)[-1]["reward_accuracy"] == 1
    theirs = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    theirs.config.pad_token_id = load_tokenizer(folder).pad_token_id
    found = rewards_by_transformers(folder, theirs.eval())
    assert found == pytest.approx(rewards_by_transformers(folder, load_classifier(folder).eval()), abs=1e-5)
    assert all(good > poor for good, poor in zip(found[::2], found[1::2], strict=True))


@pytest.mark.slow
def test_a_reward_model_is_trained_on(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    """From a whole one and from an adapter, the first loss is where the last one ended, not log 2."""
    for name, lora in (("whole", None), ("adapter", {"rank": 4, "alpha": 8})):
        begun = train(tiny_model, data, tmp_path / name, job(max_steps=24, lora=lora))
        more = tmp_path / f"{name}-more"
        train(begun.checkpoints[-1], data, more, job(max_steps=2, lora=lora))
        assert rows(more)[0]["loss"] < 0.3 < math.log(2)


@pytest.mark.parametrize(
    ("precision", "lora"),
    [
        ("mixed", None),
        ("bfloat16", {"rank": 4, "alpha": 8}),
        pytest.param("bfloat16", None, marks=pytest.mark.slow),
        pytest.param("mixed", {"rank": 4, "alpha": 8}, marks=pytest.mark.slow),
    ],
)
def test_other_number_formats(
    precision: str, lora: dict[str, int] | None, tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    """Rewards are float32 in all of them: margins of bfloat16 would be multiples of 2^-8 of their size."""
    train(tiny_model, data, tmp_path, job(max_steps=24, precision=precision, lora=lora))
    first, *_, last = rows(tmp_path)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert last["loss"] < 0.5
    margin = torch.tensor(last["chosen_reward"])
    assert margin.bfloat16().float() != margin


def test_rows_without_an_answers_end_are_dropped_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    """What is cut has no last token to read a reward at; an empty answer and equal ones teach nothing."""
    path = tmp_path / "pairs.jsonl"
    long, empty = {**pair(1), "chosen": "fox " * 400}, {**pair(2), "rejected": " "}
    equal = {**pair(3), "chosen": "The same.", "rejected": "The same."}
    write_jsonl(path, [long, empty, equal, *(pair(number) for number in range(4, 12))])
    summary = train(tiny_model, path, tmp_path / "out", job(max_steps=1, max_length=128))
    assert summary.data.dropped == {"conversation_too_long": 1, "empty_answer": 1, "equal_pair": 1}
    assert (summary.data.used, summary.data.truncated_answers) == (8, 0)


def test_packed_rows_are_refused() -> None:
    with pytest.raises(InputError, match="padding_free cannot be true"):
        job(padding_free=True)


def test_a_tokenizer_whose_every_special_token_ends_conversations_is_refused(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    with pytest.raises(InputError, match="none can fill a batch"):
        set_padding_token(tokenizer, load_classifier(tiny_model), tokenizer.all_special_ids)


def test_a_padding_token_that_ends_nothing_stays(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    tokenizer, model = load_tokenizer(folder), load_classifier(folder)
    set_padding_token(tokenizer, model, [7])
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.pad_token_id


def test_what_a_dry_run_counts_is_what_is_trained(tiny_model: Path) -> None:
    """Parameters, with LoRA the layer of rewards beside the adapter, and the bytes of their weights."""
    shape, whole = shape_of(tiny_model, is_of_rewards=True), load_classifier(tiny_model)
    total = sum(parameter.numel() for parameter in whole.parameters())
    assert count_parameters(shape, None) == Parameters(total, total)
    assert estimate_memory(shape, job().settings, 8, 64, 1).weights == 4 * total
    lora = LoraSettings(rank=4, alpha=8)
    adapted = attach(whole, tiny_model, lora, seed=0)
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert count_parameters(shape, lora) == Parameters(total, trained)
