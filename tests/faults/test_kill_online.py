"""kill -9 at three moments of online training: it goes on, to the weights and figures of one that nobody killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from seft_bench.files import read_log, write_jsonl
from tests.conftest import REPOSITORY

KILLS, STEPS = 3, 12
CHILD = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from seft_bench import pipeline
from seft_bench.config import RecipeConfig
recipe = RecipeConfig.model_validate_json(sys.argv[1])
pipeline.train(recipe, Path(sys.argv[2]), checkpoints=2, progress=lambda *_: time.sleep(0.02))
"""


def made(run: Path) -> dict[str, bytes]:
    """Every file of every checkpoint, and the log."""
    found = [*run.glob("stages/*/checkpoints/*/*"), *run.glob("stages/*/train.jsonl")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def steps_in(run: Path) -> int:
    return sum(len(read_log(path)) for path in run.glob("stages/*/train.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_killed_at_three_moments_it_ends_in_the_same_bits(method: str, tiny_model: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # as in the process that is killed
    prompts = [{"prompt": [{"role": "user", "content": f"What is {number}?"}]} for number in range(12)]
    write_jsonl(tmp_path / "data" / "prompts.jsonl", prompts)
    policy = {
        "max_steps": STEPS,
        "learning_rate": 5e-3,
        "global_batch_size": 16,
        "micro_batch_size": 8,
        "max_length": 64,
        "device": "cpu",
        "save_state_every_minutes": 1e-4,
    }
    settings = {"init": "base", "samples": 4, "updates": 2, "beta": 0.1, "drafts": {"max_new_tokens": 8}}
    recipe = RecipeConfig(
        name="run",
        method=method,
        base=str(tiny_model),
        data=str(tmp_path / "data"),
        settings={**settings, "policy": policy},
    )
    pipeline.train(recipe, tmp_path / "whole", checkpoints=2)
    killed = tmp_path / "killed"
    for moment in sorted(random.Random(4).sample(range(1, STEPS - 1), KILLS)):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, recipe.model_dump_json(), str(killed)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        )
        while process.poll() is None and steps_in(killed) < moment:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    pipeline.train(recipe, killed, checkpoints=2)
    assert made(killed) == made(tmp_path / "whole")
