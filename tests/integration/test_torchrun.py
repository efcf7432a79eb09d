"""The command under torchrun: the runs of one process, errors that are told once, and ranks that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.files import read_json, read_log
from seft_bench.stages.recipes import load_recipe
from seft_bench.stages.runs import TrainedRun
from tests.several_processes import torchrun

pytestmark = pytest.mark.slow

DPO = ["tiny-seft", "name=tiny-dpo", "method=dpo", "settings.start.max_steps=4", "settings.policy.max_steps=30"]
SEFT = [
    *("tiny-seft", "settings.rounds=1", "settings.evolution=external", "settings.prompts=24"),
    *(f"settings.{stage}.{key}" for stage in ("preliminary", "reviser") for key in ("max_steps=3",)),
    *("settings.start.max_steps=3", "settings.policy.max_steps=4", "settings.drafts.max_new_tokens=24"),
]


def by_one(command: list[str], out: Path) -> TrainedRun:
    return pipeline.train(load_recipe(command[0], command[1:]), out, checkpoints=2)


def by_two(command: list[str], out: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    started = torchrun(2, "-m", "seft_bench", "train", *command, "--out", str(out), cwd=cwd)
    told, errors = started.communicate(timeout=500)
    return subprocess.CompletedProcess(command, started.returncode, told, errors)


def records(out: Path) -> list[dict[str, Any]]:
    """What the training stages of a run say of themselves."""
    found = [read_json(path) for path in sorted((out / "stages").glob("*/stage.json"))]
    return [record for record in found if record["kind"] == "train"]


def texts(file: Path) -> list[dict[str, Any]]:
    """Rows without what the rounding of weights shows in."""
    return [{key: value for key, value in row.items() if key != "statistic"} for row in read_log(file)]


def assert_same_course(out: Path, expected: Path) -> None:
    ours, theirs = read_log(out / "train.jsonl"), read_log(expected / "train.jsonl")
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        stage, other_stage = mine.pop("stage"), other.pop("stage")
        assert stage == other_stage
        assert mine == pytest.approx(other, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_round_of_seft_is_the_same_in_two_processes(sharding: str, desk: Path) -> None:
    by_one(SEFT, desk / "one")
    done = by_two([*SEFT, f"settings.training.sharding={sharding}"], desk / "two", desk)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(desk / "two" / "checkpoints" / f"step-{step:06d}") for step in (2, 4)]
    assert {(record["processes"], record["sharding"]) for record in records(desk / "two")} == {(2, sharding)}
    assert_same_course(desk / "two", desk / "one")
    for file in ("drafts-1-*/drafts.jsonl", "revised-1-*/revised.jsonl"):
        [mine], [other] = (list((desk / name / "stages").glob(file)) for name in ("two", "one"))
        assert texts(mine) == texts(other)


def test_a_run_whose_rank_was_killed_goes_on_in_one_process(desk: Path) -> None:
    out = desk / "killed"
    slow = [*DPO, "settings.policy.micro_batch_size=1", "settings.policy.save_state_every_minutes=0.001"]
    started = torchrun(2, "-m", "seft_bench", "train", *slow, "--out", str(out), cwd=desk)
    ranks = wait_for_ranks(started, out)
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = started.communicate(timeout=120)
    assert started.returncode != 0
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert errors.count("error: process 0 of 2 lost another one") <= 1
    assert not (out / "manifest.json").exists()
    by_one(slow, out)
    [record] = [record for record in records(out) if record["name"] == "dpo"]
    assert record["processes"] == 1
    one = desk / "one"
    by_one(slow, one)
    assert_same_course(out, one)


def wait_for_ranks(started: subprocess.Popen[str], out: Path) -> list[int]:
    """Wait until the policy has taken some steps; return the processes that train, by rank."""
    while started.poll() is None:
        if any(len(read_log(log)) >= 5 for log in out.glob("stages/dpo-*/train.jsonl")):
            children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
            environments = {int(child): Path(f"/proc/{child}/environ").read_text() for child in children}
            rank_of = {child: text.split("\0RANK=")[1].split("\0")[0] for child, text in environments.items()}
            return sorted(rank_of, key=lambda child: int(rank_of[child]))
        time.sleep(0.02)
    raise AssertionError(f"it ended before it could be killed: {started.communicate()}")


def test_an_error_of_all_ranks_is_told_once(desk: Path) -> None:
    done = by_two(["no-such-recipe"], desk / "out", desk)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1
    assert "no-such-recipe" in done.stderr


def test_a_command_of_one_process_is_refused(desk: Path) -> None:
    started = torchrun(2, "-m", "seft_bench", "eval", "--suite", "tiny-mtbench", cwd=desk)
    _, errors = started.communicate(timeout=120)
    assert started.returncode != 0
    assert errors.count("`eval` runs in one process, and torchrun started 2") == 1
