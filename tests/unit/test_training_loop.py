"""The loop: its files, batches that may be split, learning, and killed runs that go on bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seft_bench import files
from seft_bench.chat import load_tokenizer
from seft_bench.config import validate
from seft_bench.errors import InputError
from tests.conftest import REPOSITORY
from tests.tiny_model import make_tiny_model
from training import checkpoint, loop, record
from training.checkpoint import load_model
from training.data import steps_within
from training.loop import OnStep, TrainJob, TrainSettings, TrainSummary, train
from training.run import Run
from training.settings import checkpoint_steps, total_steps
from training.trackers import is_installed

EXAMPLES = 26


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this module runs on one thread."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rows of unequal length: questions about numbers, a short good answer and a long bad one."""
    folder = tmp_path_factory.mktemp("data")
    prompts = [
        [{"role": "user", "content": f"What is {number} plus two{' please' * (number % 5)}?"}]
        for number in range(EXAMPLES)
    ]
    pairs = [
        {"prompt": prompt, "chosen": f"It is {n + 2}.", "rejected": "The lazy dog" + " jumps" * (n % 7)}
        for n, prompt in enumerate(prompts)
    ]
    labelled = [
        {"prompt": row["prompt"], "answer": row["rejected" if n % 3 else "chosen"], "label": n % 3 == 0}
        for n, row in enumerate(pairs)
    ]
    files = {
        "labelled": labelled,
        "pairs": pairs,
        "sft": [{"prompt": row["prompt"], "answer": row["chosen"]} for row in pairs],
        "weighted": [
            {"prompt": row["prompt"], "answer": row["chosen"], "weight": n % 3} for n, row in enumerate(pairs)
        ],
        "weighted by 1": [{"prompt": row["prompt"], "answer": row["chosen"], "weight": 1} for row in pairs],
    }
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    by_loss = {"sft": "sft", "dpo": "pairs", "orpo": "pairs", "ld-dpo": "pairs", "kto": "labelled"}
    paths = {name: folder / f"{name}.jsonl" for name in files}
    return paths | {loss: paths[name] for loss, name in by_loss.items()}


OF_JOB = ("loss_settings", "checkpoints", "seed", "fresh")


def settings(**changes: Any) -> TrainSettings:
    given = {"learning_rate": 3e-3, "epochs": 2, "global_batch_size": 8, "micro_batch_size": 8, "device": "cpu"}
    return validate({**given, **changes}, TrainSettings, "training settings")


def job(loss: str = "sft", **changes: Any) -> TrainJob:
    of_job = {key: changes.pop(key) for key in OF_JOB if key in changes}
    return TrainJob(settings(**changes), loss, **of_job)


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def assert_same_run(out: Path, expected: Path) -> None:
    """The logged curve is equal byte for byte, and every checkpoint bit for bit."""
    assert (out / "train.jsonl").read_bytes() == (expected / "train.jsonl").read_bytes()
    names = sorted(path.name for path in (expected / "checkpoints").iterdir())
    assert sorted(path.name for path in (out / "checkpoints").iterdir() if not path.name.startswith(".")) == names
    for name in names:
        assert (out / "checkpoints" / name / "model.safetensors").read_bytes() == (
            expected / "checkpoints" / name / "model.safetensors"
        ).read_bytes()


class Killed(BaseException):
    """Stands for a signal: nothing in the loop may catch it."""


def kill_after(step: int) -> OnStep:
    def on_step(done: int, _steps: int, _figures: dict[str, Any]) -> None:
        if done == step:
            raise Killed

    return on_step


# --- what a run writes


def test_a_run_leaves_checkpoints_a_curve_and_a_summary(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    reported: list[tuple[int, int]] = []
    summary = train(
        tiny_model,
        data["sft"],
        tmp_path / "run",
        job(checkpoints=2),
        on_step=lambda done, steps, _loss: reported.append((done, steps)),
    )
    assert reported == [(step, 8) for step in range(1, 9)]  # 26 examples in batches of 8: 4 steps an epoch
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock") == [
        "checkpoints",
        "run.json",
        "summary.json",
        *(["tensorboard"] if is_installed("tensorboard") else []),
        "timings.jsonl",
        "train.jsonl",
    ]
    assert [path.name for path in summary.checkpoints] == ["step-000004", "step-000008"]
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, 9))
    assert set(rows(tmp_path / "run")[0]) == {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens"}
    assert (summary.steps, summary.epochs, summary.data.rows, summary.data.used) == (8, 2.0, EXAMPLES, EXAMPLES)
    assert summary.tokens == 2 * summary.data.tokens == rows(tmp_path / "run")[-1]["tokens"]
    assert summary.labelled_tokens == 2 * summary.data.labelled_tokens
    assert summary.final_loss == rows(tmp_path / "run")[-1]["loss"]
    assert summary.cpu_seconds > 0
    assert summary.peak_rss_megabytes > 50  # importing torch alone takes more


def test_a_checkpoint_is_a_complete_model_folder(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    summary = train(tiny_model, data["sft"], tmp_path / "run", job())
    folder = summary.checkpoints[-1]
    assert load_tokenizer(folder).chat_template == load_tokenizer(tiny_model).chat_template
    assert load_model(folder).config.vocab_size == load_model(tiny_model).config.vocab_size
    facts = json.loads((folder / "checkpoint.json").read_text())
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts == {
        "step": 8,
        "steps": 8,
        "tokens": summary.tokens,
        "loss": summary.final_loss,
        "settings_hash": run["hash"],
    }
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt"))


def test_equal_checkpoints_are_equal_files_whether_the_hub_was_off_or_not(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers writes into tokenizer_config.json how the tokenizer was loaded."""
    saved = []
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        [folder] = train(tiny_model, data["sft"], tmp_path / str(offline), job(epochs=None, max_steps=1)).checkpoints
        saved.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert saved[0] == saved[1]


def test_a_finished_run_is_returned_without_any_work(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = train(tiny_model, data["sft"], tmp_path / "run", job())
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    monkeypatch.setattr(loop, "open_start", lambda *_: pytest.fail("a finished run loaded its model"))
    assert train(tiny_model, data["sft"], tmp_path / "run", job()) == summary
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_folder_without_weights_starts_from_an_initialisation_by_the_seed(
    data: dict[str, Path], tmp_path: Path
) -> None:
    bare = make_tiny_model(tmp_path / "bare", with_weights=False)
    texts = tmp_path / "text.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"The lazy dog number {number} jumps."}) + "\n" for number in range(12))
    )
    outs = {name: tmp_path / name for name in ("first", "again", "other")}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        train(bare, texts, outs[name], job(seed=seed, max_steps=1, epochs=None, fresh=True))
    first, again, other = (weights(out, 1)["model.norm.weight"] for out in outs.values())
    assert torch.equal(first, again)
    embeddings = [weights(out, 1)["model.embed_tokens.weight"] for out in outs.values()]
    assert torch.equal(embeddings[0], embeddings[1])
    assert not torch.equal(embeddings[0], embeddings[2])
    assert other.shape == first.shape


# --- one loss, however the batch is cut


@pytest.mark.parametrize("loss", ["sft", "dpo", "orpo", "ld-dpo", "kto"])
def test_batch_8_by_1_equals_batch_2_by_4(loss: str, tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    """Loss, gradient norm and metrics of every step, over several updates, are the same to float32's rounding."""
    # Against a reference of its own: where policy and reference are equal, the sign of a margin is rounding noise.
    start, frozen = tiny_model, make_tiny_model(tmp_path / "reference", seed=5)
    if loss == "kto":
        start, frozen = frozen, start  # the other way round its divergence on these rows lies above 0
    for micro_batch_size in (8, 2, 3):
        plan = job(loss, micro_batch_size=micro_batch_size, learning_rate=1e-3)
        train(start, data[loss], tmp_path / str(micro_batch_size), plan, reference_folder=frozen)
    whole = rows(tmp_path / "8")
    assert len(whole) == 8
    for parts in (rows(tmp_path / "2"), rows(tmp_path / "3")):
        for one, other in zip(whole, parts, strict=True):
            assert other == pytest.approx(one, rel=2e-4, abs=2e-5)
    if loss == "kto":
        assert all(row["kl"] > 0 for row in whole[:3]), "the divergence that all micro-batches share is in play"


def test_weighted_rows_train_alike_however_the_batch_is_cut_and_alike_weights_change_nothing(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    for micro_batch_size in (8, 3):
        plan = job(micro_batch_size=micro_batch_size, learning_rate=1e-3)
        train(tiny_model, data["weighted"], tmp_path / str(micro_batch_size), plan)
    for one, other in zip(rows(tmp_path / "8"), rows(tmp_path / "3"), strict=True):
        assert other == pytest.approx(one, rel=2e-4, abs=2e-5)
    for name in ("sft", "weighted by 1"):
        train(tiny_model, data[name], tmp_path / name, job(learning_rate=1e-3))
    assert_same_run(tmp_path / "weighted by 1", tmp_path / "sft")
    assert rows(tmp_path / "8")[0]["loss"] != pytest.approx(rows(tmp_path / "sft")[0]["loss"], rel=1e-3)


def test_the_gradient_of_weighted_rows_is_that_of_each_row_by_its_weight(
    tiny_model: Path, data: dict[str, Path]
) -> None:
    """Against transformers' own loss of each row alone: a mean over its tokens, so times tokens, times its weight."""
    from training.data import DataRules, collate, load_examples

    examples = load_examples(data["weighted"], load_tokenizer(tiny_model), DataRules(512))[0][:6]
    run = Run(load_model(tiny_model), examples, None, job(global_batch_size=6, micro_batch_size=4))
    run._forward_backward(range(6))
    plain, total = load_model(tiny_model), sum(example.chosen.labelled for example in examples)
    for number, example in enumerate(examples):
        batch = collate([example.chosen])
        mean = plain(input_ids=batch.ids, labels=batch.ids.masked_fill(~batch.labelled, -100)).loss
        (mean * example.chosen.labelled * (number % 3) / total).backward()
    for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_a_gradient_equals_the_one_of_the_plain_mean_over_the_global_batch(
    tiny_model: Path, data: dict[str, Path]
) -> None:
    """SFT's gradient of one global batch, split unevenly, against transformers' own loss over all labelled tokens."""
    from training.data import DataRules, collate, load_examples

    examples, _ = load_examples(data["sft"], load_tokenizer(tiny_model), DataRules(512))
    run = Run(load_model(tiny_model), examples, None, job(global_batch_size=EXAMPLES, micro_batch_size=7))
    run._forward_backward(range(EXAMPLES))
    plain, batch = load_model(tiny_model), collate(example.chosen for example in examples)
    plain(input_ids=batch.ids, labels=batch.ids.masked_fill(~batch.labelled, -100)).loss.backward()
    for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


# --- it learns


def test_sft_lowers_the_loss_and_teaches_when_to_stop(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    summary = train(tiny_model, data["sft"], tmp_path / "run", job(epochs=20, learning_rate=1e-2))
    curve = [row["loss"] for row in rows(tmp_path / "run")]
    assert curve[-1] < 0.3 * curve[0]
    tokenizer, trained = load_tokenizer(tiny_model), load_model(summary.checkpoints[-1])
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 5 plus two?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=False,
    )
    answer = trained.generate(ids, max_new_tokens=20, do_sample=False)[0, ids.shape[1] :].tolist()
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer[:-1]).startswith("It is")


@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_preference_losses_learn_to_prefer_the_chosen_answer(
    loss: str, tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    train(tiny_model, data[loss], tmp_path / "run", job(loss, epochs=6, learning_rate=1e-3))
    assert rows(tmp_path / "run")[-1]["reward_accuracy"] > 0.9
    if loss == "dpo":
        first = rows(tmp_path / "run")[0]
        assert first["loss"] == pytest.approx(0.693147, abs=1e-4)  # the policy still equals its reference: ln 2
        assert first["reward_margin"] == pytest.approx(0, abs=1e-4)


def test_dpo_measures_rewards_against_the_reference_it_is_given(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    train(tiny_model, data["dpo"], tmp_path / "run", job("dpo"), reference_folder=other)
    assert abs(rows(tmp_path / "run")[0]["reward_margin"]) > 0.01


def test_a_checkpoint_that_is_start_and_reference_is_fingerprinted_once(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def fingerprint(folder: Path) -> str:
        hashed.append(folder)
        return files.sha256_folder(folder)

    monkeypatch.setattr(record, "fingerprint", fingerprint)
    train(tiny_model, data["dpo"], tmp_path / "run", job("dpo"), reference_folder=tiny_model)
    assert hashed == [tiny_model]
    inputs = json.loads((tmp_path / "run" / "run.json").read_text())["inputs"]
    assert inputs["model"] == inputs["reference"] == files.sha256_folder(tiny_model)


def test_a_small_gradient_limit_scales_the_update_not_the_logged_norm(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    """Adam divides the scale out, so the first step is nearly the same; the logged norm is the one before the cut."""
    train(tiny_model, data["sft"], tmp_path / "loose", job(max_grad_norm=1e9, max_steps=1, epochs=None))
    train(tiny_model, data["sft"], tmp_path / "tight", job(max_grad_norm=1e-6, max_steps=1, epochs=None))
    assert rows(tmp_path / "tight")[0]["grad_norm"] == rows(tmp_path / "loose")[0]["grad_norm"] > 1
    start = load_file(tiny_model / "model.safetensors")
    moved = {
        name: (weights(tmp_path / name, 1)["model.norm.weight"] - start["model.norm.weight"]).abs().max().item()
        for name in ("loose", "tight")
    }
    assert moved["tight"] < moved["loose"]  # Adam's epsilon (1e-8) shows against gradients of 1e-7


# --- kill and resume


@pytest.mark.parametrize(("loss", "killed_after"), [("sft", 1), ("sft", 5), ("dpo", 5), ("orpo", 8)])
def test_a_killed_run_goes_on_bit_for_bit(
    loss: str, killed_after: int, tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    plan = job(loss, checkpoints=2)
    train(tiny_model, data[loss], tmp_path / "whole", plan, save_state_every_steps=3)
    with pytest.raises(Killed):
        train(
            tiny_model,
            data[loss],
            tmp_path / "killed",
            plan,
            save_state_every_steps=3,
            on_step=kill_after(killed_after),
        )
    steps: list[int] = []
    resumed = train(
        tiny_model,
        data[loss],
        tmp_path / "killed",
        plan,
        save_state_every_steps=3,
        on_step=lambda done, *_: steps.append(done),
    )
    # It goes on after the newest state, and repeats nothing before it.
    assert steps == list(range({1: 0, 5: 4, 8: 8}[killed_after] + 1, 9))
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert resumed.tokens == json.loads((tmp_path / "whole" / "summary.json").read_text())["tokens"]
    assert not (tmp_path / "killed" / "state").exists()


def test_a_run_in_bfloat16_goes_on_bit_for_bit_and_saves_bfloat16(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    """The lower halves of its weights are part of the state, not of the checkpoint."""
    plan = job("dpo", precision="bfloat16")
    train(tiny_model, data["dpo"], tmp_path / "whole", plan, save_state_every_steps=3)
    with pytest.raises(Killed):
        train(tiny_model, data["dpo"], tmp_path / "killed", plan, save_state_every_steps=3, on_step=kill_after(4))
    files = (tmp_path / "killed" / "state").rglob("*.safetensors")
    saved = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert saved["optimizer/low/model.norm.weight"].view(torch.int16).any()
    train(tiny_model, data["dpo"], tmp_path / "killed", plan, save_state_every_steps=3)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert {tensor.dtype for tensor in weights(tmp_path / "whole", 8).values()} == {torch.bfloat16}


def test_a_run_with_dropout_goes_on_bit_for_bit_too(data: dict[str, Path], tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.3}))
    plan = job(dropout=True)
    train(model, data["sft"], tmp_path / "whole", plan, save_state_every_steps=3)
    with pytest.raises(Killed):
        train(model, data["sft"], tmp_path / "killed", plan, save_state_every_steps=3, on_step=kill_after(4))
    train(model, data["sft"], tmp_path / "killed", plan, save_state_every_steps=3)
    train(model, data["sft"], tmp_path / "without", job())
    assert rows(tmp_path / "without")[0]["loss"] != rows(tmp_path / "whole")[0]["loss"]
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_save_that_is_cut_off_never_looks_like_a_checkpoint(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes when the weights of the checkpoint at step 4 are written and the rest is not."""
    plan = job(checkpoints=2)
    train(tiny_model, data["sft"], tmp_path / "whole", plan)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_json", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            train(tiny_model, data["sft"], tmp_path / "killed", plan)
    assert list((tmp_path / "killed" / "checkpoints").glob("step-*")) == []
    assert list((tmp_path / "killed" / "checkpoints").glob(".writing-*/model.safetensors"))
    train(tiny_model, data["sft"], tmp_path / "killed", plan)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


CHILD = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from training.loop import TrainJob, TrainSettings, train
model, data, out = map(Path, sys.argv[1:])
settings = TrainSettings(learning_rate=3e-3, epochs=8, global_batch_size=8, micro_batch_size=8, device="cpu")
plan = TrainJob(settings, "dpo", checkpoints=3)
train(model, data, out, plan, save_state_every_steps=2, on_step=lambda *_: time.sleep(0.03))
"""


@pytest.mark.slow  # the command is killed in tests/integration/test_pipeline.py, and the loop by an exception above
def test_a_process_killed_by_the_system_goes_on_bit_for_bit(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    out, plan = tmp_path / "killed", job("dpo", epochs=8, checkpoints=3)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tiny_model), str(data["dpo"]), str(out)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    while process.poll() is None and not (
        (out / "train.jsonl").exists() and len((out / "train.jsonl").read_text().splitlines()) >= 13
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (out / "summary.json").exists()
    train(tiny_model, data["dpo"], tmp_path / "whole", plan)
    train(tiny_model, data["dpo"], out, plan)
    assert_same_run(out, tmp_path / "whole")


def test_another_run_is_not_mixed_into_a_folder(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tiny_model, data["orpo"], tmp_path / "run", job("orpo"), save_state_every_steps=2, on_step=kill_after(3))
    with pytest.raises(
        InputError, match=r"holds a run with another learning_rate, seed\. Give the new run another folder, or remove"
    ):
        train(tiny_model, data["orpo"], tmp_path / "run", job("orpo", learning_rate=1e-4, seed=1))
    changed = tmp_path / "changed.jsonl"
    changed.write_text(
        data["orpo"].read_text()
        + json.dumps({"prompt": [{"role": "user", "content": "q"}], "chosen": "a", "rejected": "b"})
        + "\n"
    )
    with pytest.raises(InputError, match="holds a run with another data"):
        train(tiny_model, changed, tmp_path / "run", job("orpo"))
    train(tiny_model, data["orpo"], tmp_path / "run", job("orpo"))  # the first run is intact and goes on
    with pytest.raises(InputError, match="another seed"):
        train(tiny_model, data["orpo"], tmp_path / "run", job("orpo", seed=1))


# --- wrong input, and arithmetic of steps


def test_a_diverging_run_says_so(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training diverged at step .* Lower learning_rate"):
        train(tiny_model, data["sft"], tmp_path / "run", job(learning_rate=1e38, epochs=5))


def test_a_tokenizer_of_another_model_is_refused(data: dict[str, Path], tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", vocab_size=262)
    make_tiny_model(tmp_path / "larger", vocab_size=320)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text((tmp_path / "larger" / name).read_text())
    with pytest.raises(InputError, match="embeddings for 262 ids only"):
        train(model, data["sft"], tmp_path / "run", job())


def test_missing_inputs_are_named(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training data not found"):
        train(tiny_model, tmp_path / "absent.jsonl", tmp_path / "run", job())
    with pytest.raises(InputError, match="tokenizer"):
        train(tmp_path / "absent", data["sft"], tmp_path / "run", job())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": 3}, "exactly one of epochs and max_steps, got epochs=2.0 and max_steps=3"),
        ({"epochs": None}, "exactly one of epochs and max_steps"),
        ({"max_tokens": 100}, "give max_tokens alone, without epochs and max_steps"),
        ({"epochs": 0}, r"epochs: Input should be greater than 0 \(got 0\)"),
        ({"epochs": None, "max_steps": 0}, "max_steps: Input should be greater than 0"),
        (
            {"learning_rate": 0.0, "micro_batch_size": 0},
            "(?s)2 errors.*learning_rate: Input should be greater than 0.*micro_batch_size: Input should be greater",
        ),
        ({"schedule": "step"}, "schedule: Input should be 'cosine', 'constant', 'linear', 'inverse_sqrt' or 'wsd'"),
        ({"schedule": "wsd", "warmup_ratio": 0.6, "decay_ratio": 0.5}, r"shares of one run, got 0\.6 and 0\.5"),
        ({"save_state_every_minutes": 0}, "save_state_every_minutes: Input should be greater than 0"),
        ({"precision": "float16"}, "precision: Input should be 'float32', 'mixed' or 'bfloat16'"),
        ({"dtype": "bfloat16"}, "`dtype` is called `precision`"),
        ({"warmup_ratio": 1.5}, "warmup_ratio: Input should be less than or equal to 1"),
        ({"max_length": 1}, "max_length: Input should be greater than or equal to 2"),
        ({"loss_settings": {"beta": 1}}, "unknown setting of the loss 'sft'"),
        ({"checkpoints": 0}, "checkpoints must be greater than 0, got 0"),
    ],
)
def test_wrong_settings_are_refused_when_they_are_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        job(**changes)


def test_steps_and_checkpoints() -> None:
    assert total_steps(settings(epochs=2), 26) == 8
    assert total_steps(settings(epochs=0.5), 26) == 2
    assert total_steps(settings(epochs=0.01), 26) == 1
    assert total_steps(settings(epochs=None, max_steps=150), 26) == 150
    assert checkpoint_steps(150, 2) == [75, 150]
    assert checkpoint_steps(2, 4) == [1, 2]
    assert checkpoint_steps(7, 3) == [2, 5, 7]


def test_tokens_decide_the_steps_and_the_run_is_that_of_so_many_steps(
    tiny_model: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    """The logged tokens say how many there are after each step, over the end of an epoch too."""
    train(tiny_model, data["dpo"], tmp_path / "steps", job("dpo", epochs=None, max_steps=7))
    taken = [row["tokens"] for row in rows(tmp_path / "steps")]
    for given, steps in ((taken[4], 5), (taken[5] - 1, 5), (taken[0], 1)):
        summary = train(tiny_model, data["dpo"], tmp_path / f"{given}", job("dpo", epochs=None, max_tokens=given))
        assert (summary.steps, summary.tokens) == (steps, taken[steps - 1])
    train(tiny_model, data["dpo"], tmp_path / "five", job("dpo", epochs=None, max_steps=5))
    assert_same_run(tmp_path / f"{taken[4]}", tmp_path / "five")
    with pytest.raises(InputError, match="max_tokens: 1 are fewer than the first batch has"):
        train(tiny_model, data["dpo"], tmp_path / "none", job("dpo", epochs=None, max_tokens=1))


def test_steps_within_tokens_are_those_of_the_batch_plan() -> None:
    """Ten tokens each, in batches of 2 and a last one of 1: an epoch is 3 steps of 50 tokens."""
    assert [steps_within(most, [10] * 5, [10] * 5, 2, 0) for most in (20, 50, 100, 120)] == [1, 3, 6, 7]


def test_a_summary_survives_moving_the_folder(tiny_model: Path, data: dict[str, Path], tmp_path: Path) -> None:
    summary = train(tiny_model, data["sft"], tmp_path / "run", job())
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    found = record.load_summary(moved)
    assert isinstance(found, TrainSummary)
    assert found.checkpoints == (moved / "checkpoints" / "step-000008",)
    assert replace(found, checkpoints=summary.checkpoints) == summary
