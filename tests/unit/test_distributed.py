"""Several processes train as one does: the same curve to 1e-5, whole copies or shards, however the batch divides."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.generators.conversations import Sampling
from seft_bench.records import Row
from seft_bench.stages.engines import Engine, OwnEngine
from seft_bench.stages.helpers import with_helpers
from tests.several_processes import REPOSITORY, forked, raised_in
from tests.tiny_model import make_tiny_model
from training import distributed
from training.distributed import ALONE, Processes, launched_processes, micro_batches
from training.loop import TrainJob, TrainSettings, train

EXAMPLES = 26


@pytest.fixture(autouse=True)
def _quickly_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchrun ends what waits here for its end, and no machine is far away."""
    monkeypatch.setattr(distributed, "ENDED_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(distributed, "APPEARS_WITHIN_SECONDS", 0.1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this module runs on one thread."""


class Start(NamedTuple):
    """What every training here starts from; the reference differs, where margins would be nothing but rounding."""

    model: Path
    reference: Path
    data: Path


@pytest.fixture(scope="module")
def start(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Pairs of unequal length, which are SFT rows as well."""
    folder = tmp_path_factory.mktemp("start")
    path = folder / "pairs.jsonl"
    asked = [f"What is {number} plus two{' please' * (number % 5)}?" for number in range(EXAMPLES)]
    pairs = [
        {"prompt": [{"role": "user", "content": text}], "chosen": f"It is {n + 2}.", "rejected": "The" + " fox" * n}
        for n, text in enumerate(asked)
    ]
    write_jsonl(path, [{**row, "answer": row["chosen"], "label": n % 2 == 0} for n, row in enumerate(pairs)])
    return Start(tiny_model, make_tiny_model(folder / "reference", seed=5), path)


def job(loss: str = "sft", **changes: Any) -> TrainJob:
    """26 examples in batches of 9: two processes have 5 and 4 of each, and of the last one, of 8, 4 each."""
    given = {"learning_rate": 1e-3, "epochs": 2, "global_batch_size": 9, "micro_batch_size": 3, "device": "cpu"}
    return TrainJob(TrainSettings(**{**given, **changes}), loss, checkpoints=2, seed=3)


def train_it(processes: Processes, start: Start, out: Path, plan: TrainJob, killed_after: int | None = None) -> int:
    """Train in one of several processes, or alone; return the process's id."""

    def on_step(step: int, _steps: int, _loss: float) -> None:
        if step == killed_after:
            raise InputError("killed")

    reference = start.reference if plan.loss_entry.needs_reference else None
    train(
        start.model,
        start.data,
        out,
        plan,
        reference_folder=reference,
        save_state_every_steps=2,
        processes=processes,
        on_step=on_step,
    )
    return os.getpid()


def rows(out: Path, log: str = "train.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / log).read_text().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "summary.json").read_text()))


def weights(out: Path) -> dict[str, torch.Tensor]:
    [*_, last] = sorted((out / "checkpoints").iterdir())
    [file] = last.glob("*.safetensors")
    return load_file(file)


def assert_same_course(out: Path, expected: Path) -> None:
    """Every figure of every step is equal to 1e-5, and so are the weights that come out."""
    assert len(rows(out)) == len(rows(expected))
    for ours, theirs in zip(rows(out), rows(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    found, wanted = weights(out), weights(expected)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


LATER = (("sft", "fsdp"), ("dpo", "ddp"), ("orpo", "fsdp"), ("kto", "fsdp"), ("ld-dpo", "fsdp"))


@pytest.mark.parametrize(
    ("loss", "sharding"),
    [("sft", "ddp"), ("dpo", "fsdp"), ("kto", "ddp")] + [pytest.param(*both, marks=pytest.mark.slow) for both in LATER],
)
def test_two_processes_train_as_one_does(loss: str, sharding: str, start: Start, tmp_path: Path) -> None:
    train_it(ALONE, start, tmp_path / "one", job(loss))
    pids = forked(2, train_it, start, tmp_path / "two", job(loss, sharding=sharding))
    assert_same_course(tmp_path / "two", tmp_path / "one")
    said = summary(tmp_path / "two")
    assert (said["processes"], said["sharding"]) == (2, sharding)
    assert [rank["process"] for rank in said["ranks"]] == pids
    assert len({*pids, os.getpid()}) == 3
    total = sum(tensor.numel() for tensor in weights(tmp_path / "one").values())
    held = [rank["parameters_held"] for rank in said["ranks"]]
    assert held == ([total, total] if sharding == "ddp" else [total // 2, total // 2])


def test_a_sharded_start_is_its_own_reference(start: Start, tmp_path: Path) -> None:
    """Its forward without gradients leaves weights gathered, which are sharded again before they are trained."""
    plan = job("dpo", sharding="fsdp", epochs=None, max_steps=2)
    forked(2, train_it, start._replace(reference=start.model), tmp_path / "two", plan)
    first, second = (row["loss"] for row in rows(tmp_path / "two"))
    assert first == pytest.approx(math.log(2), abs=1e-6)
    assert second < first


def test_two_processes_train_weighted_rows_as_one_does(start: Start, tmp_path: Path) -> None:
    weighted = tmp_path / "weighted.jsonl"
    write_jsonl(weighted, [{**row, "weight": n % 4 / 2} for n, row in enumerate(read_jsonl(start.data, "rows"))])
    given = start._replace(data=weighted)
    train_it(ALONE, given, tmp_path / "one", job())
    forked(2, train_it, given, tmp_path / "two", job())
    assert_same_course(tmp_path / "two", tmp_path / "one")
    train_it(ALONE, start, tmp_path / "unweighted", job())
    assert rows(tmp_path / "one")[0]["loss"] != pytest.approx(rows(tmp_path / "unweighted")[0]["loss"], rel=1e-3)


VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"rank": 4, "alpha": 8}},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "validation": {"validation": {"rows": 7, "every_steps": 2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_as_one_does_whatever_is_asked_for(
    variant: str, sharding: str, start: Start, tmp_path: Path
) -> None:
    train_it(ALONE, start, tmp_path / "one", job("dpo", **VARIANTS[variant]))
    forked(2, train_it, start, tmp_path / "two", job("dpo", sharding=sharding, **VARIANTS[variant]))
    assert_same_course(tmp_path / "two", tmp_path / "one")
    if variant == "validation":
        ours, theirs = (rows(tmp_path / name, "validation.jsonl") for name in ("two", "one"))
        assert len(ours) == len(theirs) == 3
        for mine, other in zip(ours, theirs, strict=True):
            assert mine == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("ddp", "fsdp"), ("fsdp", "ddp")])
def test_bfloat16_weights_are_shared_and_go_on_too(before: str, after: str, start: Start, tmp_path: Path) -> None:
    """Sums of bfloat16 gradients round otherwise in other micro-batches: the curve is the same to a hundredth."""
    plan: dict[str, Any] = {"precision": "bfloat16", "learning_rate": 1e-4}
    train_it(ALONE, start, tmp_path / "one", job("dpo", **plan))
    ended = raised_in(2, train_it, start, tmp_path / "two", job("dpo", sharding=before, **plan), 5)
    assert "InputError: killed" in ended, ended
    forked(3, train_it, start, tmp_path / "two", job("dpo", sharding=after, **plan))
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    for name, tensor in weights(tmp_path / "one").items():
        assert weights(tmp_path / "two")[name].dtype == tensor.dtype == torch.bfloat16
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=2e-2, atol=2e-3)


HOW_IT_GOES_ON = [
    (2, "fsdp", 1, "ddp"),
    *(
        pytest.param(*how, marks=pytest.mark.slow)
        for how in ((2, "ddp", 1, "ddp"), (1, "ddp", 2, "fsdp"), (2, "fsdp", 3, "fsdp"))
    ),
]


@pytest.mark.parametrize(("before", "sharding", "after", "sharding_after"), HOW_IT_GOES_ON)
def test_a_killed_run_goes_on_in_another_number_of_processes(
    before: int, sharding: str, after: int, sharding_after: str, start: Start, tmp_path: Path
) -> None:
    """Killed after step 5 of 6; the newest state is of step 4."""
    train_it(ALONE, start, tmp_path / "whole", job("dpo"))
    out = tmp_path / "killed"
    ended = raised_in(before, train_it, start, out, job("dpo", sharding=sharding), 5)
    assert "InputError: killed" in ended
    assert [path.name for path in (out / "state").iterdir()] == ["step-000004"]
    forked(after, train_it, start, out, job("dpo", sharding=sharding_after))
    assert summary(out)["processes"] == after
    assert_same_course(out, tmp_path / "whole")


def test_a_sharded_checkpoint_is_a_plain_folder(start: Start, tmp_path: Path) -> None:
    """Its config names the model's own class, its weights are whole, and tied ones are there once."""
    train_it(ALONE, start, tmp_path / "one", job())
    forked(2, train_it, start, tmp_path / "two", job(sharding="fsdp"))
    folders = [tmp_path / name / "checkpoints" / "step-000006" for name in ("one", "two")]
    one, two = (sorted(path.name for path in folder.iterdir()) for folder in folders)
    assert one == two
    assert (folders[0] / "config.json").read_text() == (folders[1] / "config.json").read_text()


@pytest.mark.parametrize("sharding", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_a_process_without_an_example_keeps_step(sharding: str, start: Start, tmp_path: Path) -> None:
    """Batches of 5, one example a forward, 3 processes: 2, 2 and 1 forwards; the last batch has 1 example only."""
    plan = {"global_batch_size": 5, "micro_batch_size": 1, "epochs": 1}
    train_it(ALONE, start, tmp_path / "one", job("dpo", **plan))
    forked(3, train_it, start, tmp_path / "three", job("dpo", **plan, sharding=sharding))
    assert summary(tmp_path / "three")["processes"] == 3
    assert_same_course(tmp_path / "three", tmp_path / "one")


@pytest.mark.slow
def test_fresh_weights_are_sharded_too(start: Start, tmp_path: Path) -> None:
    bare = start._replace(model=make_tiny_model(tmp_path / "bare", with_weights=False, tied=False))
    train_it(ALONE, bare, tmp_path / "one", replace(job(), fresh=True))
    forked(2, train_it, bare, tmp_path / "two", replace(job(sharding="fsdp"), fresh=True))
    assert summary(tmp_path / "two")["sharding"] == "fsdp"
    assert_same_course(tmp_path / "two", tmp_path / "one")


# --- the processes themselves


def talk(processes: Processes, folder: Path) -> list[Any]:
    tensor = processes.add_up(torch.full((2,), float(processes.rank)))
    with processes.main_first():
        if processes.is_main:
            (folder / "made").touch()
        seen = (folder / "made").exists()
    return [
        tensor.tolist(),
        processes.gather({"rank": processes.rank, "text": "ä" * processes.rank}),
        processes.from_main(lambda: [processes.rank, 0.1]),
        processes.total(1.5),
        seen,
    ]


def test_processes_exchange_sums_and_small_values(tmp_path: Path) -> None:
    told = [{"rank": 0, "text": ""}, {"rank": 1, "text": "ä"}, {"rank": 2, "text": "ää"}]
    assert forked(3, talk, tmp_path) == [[[3.0, 3.0], told, [0, 0.1], 4.5, True]] * 3


def test_one_process_exchanges_nothing(tmp_path: Path) -> None:
    assert talk(ALONE, tmp_path) == [[0.0, 0.0], [{"rank": 0, "text": ""}], [0, 0.1], 1.5, True]


def see(processes: Processes, folders: list[Path]) -> None:
    processes.check_shared(folders[processes.rank])


def test_a_folder_that_not_all_see_is_refused(tmp_path: Path) -> None:
    assert forked(2, see, [tmp_path, tmp_path]) == [None, None]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "other").mkdir()
    told = [text for text in raised_in(2, see, [tmp_path, tmp_path / "other"]) if text.startswith("InputError")]
    assert len(told) == 1
    assert "several machines need one shared folder" in told[0]


def fail(processes: Processes, ranks: list[int]) -> None:
    if processes.rank in ranks:
        raise InputError("wrong data")
    processes.barrier()


@pytest.mark.parametrize("ranks", [[0, 1], [1]])
def test_an_error_is_told_once(ranks: list[int]) -> None:
    told = raised_in(2, fail, ranks)
    assert sorted(told) == ["InputError: wrong data", "SystemExit: 2" if len(ranks) == 2 else "SystemExit: 1"]


def test_a_devices_of_their_own() -> None:
    assert Processes(1, 2, 1).device("cpu") == "cpu"
    assert ALONE.device("cuda:3") == "cuda:3"
    with pytest.raises(InputError, match="device 'cuda:0' is one device, and 2 processes train"):
        Processes(1, 2, 1).device("cuda:0")
    with pytest.raises(InputError, match="process 1 has no GPU of its own"):
        Processes(1, 2, 1).device("cuda")


def test_what_torchrun_says_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_processes() == ALONE
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert launched_processes() == Processes(3, 4, 1)
    monkeypatch.delenv("RANK")
    with pytest.raises(InputError, match="Start several processes with torchrun"):
        launched_processes()


def test_parts_of_a_global_batch() -> None:
    """Together they hold each example once, and every process has as many forwards."""
    for examples in range(1, 12):
        for size in range(1, 5):
            parts = [micro_batches(range(examples), 2, Processes(rank, size)) for rank in range(size)]
            counted = [index for part in parts for batch in part if batch.counts for index in batch.indices]
            assert sorted(counted) == list(range(examples))
            assert len({len(part) for part in parts}) == 1


# --- between trainings


def draw_and_score(processes: Processes, start: Start) -> Row:
    """Texts of 13 prompts in batches of 3, sampled, and likelihoods; what the stages between trainings are made of."""

    def work(engine: Engine) -> Row:
        conversations = [[{"role": "user", "content": f"What is {'very ' * (n % 4)}{n}?"}] for n in range(13)]
        samplings = [Sampling(f"key/{n}", 1.0) for n in range(13)]
        generator = engine.generator(start.model, 3)
        texts = [text for seed in (0, 1) for text in generator.complete(conversations, samplings, 8, seed)]
        short = generator.complete(conversations[:1], samplings[:1], 8, 0)  # fewer batches than processes
        scored = engine.score(start.model, [[(conversation, "It is.") for conversation in conversations]])
        return {
            "texts": [text.text for text in [*texts, *short]],
            "scores": [[score.sum, score.tokens] for part in scored for score in part],
        }

    return with_helpers(processes, OwnEngine(), work)


def test_the_first_process_is_helped_to_the_same_texts_and_likelihoods(start: Start) -> None:
    alone = draw_and_score(ALONE, start)
    assert len(set(alone["texts"])) > 10
    assert forked(3, draw_and_score, start) == [alone] * 3


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """Both hold one end of a pipe, so its end is the end of both."""
    rank = "import time\nfrom training import distributed\ndistributed.LOOKS_EVERY_SECONDS = 0.01\n"
    rank += "distributed._end_with_launcher()\nprint('up', flush=True)\ntime.sleep(600)"
    launch = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', sys.argv[1]])\ntime.sleep(600)"
    launcher = subprocess.Popen([sys.executable, "-c", launch, rank], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "up\n"
    launcher.kill()
    assert launcher.communicate(timeout=60)[0] == ""
