"""kill -9 at ten moments of a training in two processes: it goes on, to the bits of one that nobody killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from seft_bench.config import RecipeConfig
from seft_bench.files import read_json, read_log
from tests.several_processes import torchrun
from tests.small_seft import write_data

WHOM = ("the first rank", "the second rank", "both ranks", "torchrun")
KILLS = 10
GONE_WITHIN_SECONDS = 60.0
TRAINING = {
    "max_steps": 16,
    "epochs": None,
    "global_batch_size": 5,
    "micro_batch_size": 2,
    "learning_rate": 1e-3,
    "device": "cpu",
    "save_state_every_minutes": 1e-4,
}
RANK = """
import os, sys, time
from pathlib import Path
from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from training.distributed import together
recipe, out = RecipeConfig.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
with together() as processes:
    mine = out.parent / f"{os.getppid()}-{processes.rank}"
    mine.with_suffix(".new").write_text(str(os.getpid()))
    mine.with_suffix(".new").replace(mine)
    pipeline.train(recipe, out, checkpoints=2, progress=lambda *_: time.sleep(0.02), processes=processes)
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def recipe(tiny_model: Path, tmp_path: Path) -> Path:
    """DPO after a start, whose batches do not divide by two processes, in a file; beside it the ranks' program."""
    (tmp_path / "rank.py").write_text(RANK)
    settings = {"start": {**TRAINING, "max_steps": 4}, "policy": TRAINING}
    made = RecipeConfig(
        name="dpo", method="dpo", base=str(tiny_model), data=str(write_data(tmp_path / "data")), settings=settings
    )
    path = tmp_path / "recipe.json"
    path.write_text(made.model_dump_json())
    return path


def started(recipe: Path, out: Path) -> subprocess.Popen[str]:
    out.parent.mkdir(exist_ok=True)
    return torchrun(2, str(recipe.parent / "rank.py"), str(recipe), str(out), cwd=recipe.parent)


def steps_in(out: Path) -> int:
    return sum(len(read_log(path)) for path in out.glob("stages/*/train.jsonl"))


def are_up(process: subprocess.Popen[str], out: Path) -> bool:
    return all((out.parent / f"{process.pid}-{rank}").exists() for rank in (0, 1))


def victims(process: subprocess.Popen[str], out: Path, whom: str) -> list[int]:
    """The processes to kill; ranks have written down who they are."""
    first, second = (int((out.parent / f"{process.pid}-{rank}").read_text()) for rank in (0, 1))
    return {WHOM[0]: [first], WHOM[1]: [second], WHOM[2]: [first, second], WHOM[3]: [process.pid]}[whom]


def kill(process: subprocess.Popen[str], out: Path, whom: str) -> None:
    """Kill, and wait until nothing of the run is left."""
    ranks = victims(process, out, WHOM[2])
    for victim in victims(process, out, whom):
        os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    end = time.monotonic() + GONE_WITHIN_SECONDS
    while any(is_running(rank) for rank in ranks):
        assert time.monotonic() < end, f"with {whom} killed, another process stays"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def made(out: Path) -> dict[str, bytes]:
    """Weights of every checkpoint and every logged figure."""
    found = [*out.glob("stages/*/checkpoints/*/*.safetensors"), *out.glob("stages/*/train.jsonl")]
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_killed_at_ten_moments_two_processes_end_in_the_same_bits(recipe: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    _, errors = (undisturbed := started(recipe, whole)).communicate(timeout=300)
    assert undisturbed.returncode == 0, errors
    moments = sorted(random.Random(7).sample(range(1, steps_in(whole) - 1), KILLS))
    for number, moment in enumerate(moments):
        process = started(recipe, killed)
        while process.poll() is None and not (are_up(process, killed) and steps_in(killed) >= moment):
            time.sleep(0.005)
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        kill(process, killed, WHOM[number % len(WHOM)])
        assert not (killed / "manifest.json").exists(), "it ended before it could be killed"
    _, errors = (last := started(recipe, killed)).communicate(timeout=300)
    assert last.returncode == 0, errors
    records = [read_json(path) for path in killed.glob("stages/*/stage.json")]
    assert [record["processes"] for record in records] == [2, 2]
    assert made(killed) == made(whole)
    finals = [load_file(run / "checkpoints" / "step-000016" / "model.safetensors") for run in (whole, killed)]
    assert all(bool((finals[0][name] == finals[1][name]).all()) for name in finals[0])
