"""kill -9 at ten moments of a SEFT run with LoRA: it goes on, to the adapters of a run that nobody killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench import pipeline
from seft_bench.checkpoints import is_adapter
from seft_bench.config import RecipeConfig
from seft_bench.files import read_log
from tests.conftest import REPOSITORY
from tests.small_seft import small_seft, write_data

KILLS = 10
TRAINING: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
    "max_steps": 8,
    "learning_rate": 1e-3,
    "device": "cpu",
    "save_state_every_minutes": 1e-4,
}
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


def adapters(run: Path) -> dict[str, bytes]:
    """Every file of every checkpoint of a run's stages, and their logs."""
    found = [*run.glob("stages/*/checkpoints/*/*"), *run.glob("stages/*/train.jsonl"), *run.glob("stages/*/*ed.jsonl")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def steps_in(run: Path) -> int:
    return sum(len(read_log(path)) for path in run.glob("stages/*/train.jsonl"))


def with_lora(recipe: RecipeConfig) -> RecipeConfig:
    stages = dict.fromkeys(("start", "preliminary", "reviser", "policy"), TRAINING)
    settings = {name: {**recipe.settings[name], **training} for name, training in stages.items()}
    return recipe.model_copy(update={"settings": {**recipe.settings, **settings}})


@pytest.mark.slow
def test_killed_at_ten_moments_it_ends_in_the_same_adapters(tiny_model: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)  # as in the process that is killed
    recipe = with_lora(small_seft(tiny_model, write_data(tmp_path / "data")))
    pipeline.train(recipe, tmp_path / "whole", checkpoints=2)
    killed, total = tmp_path / "killed", steps_in(tmp_path / "whole")
    moments = sorted(random.Random(4).sample(range(1, total - 1), KILLS))
    for moment in moments:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, recipe.model_dump_json(), str(killed)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        )
        while process.poll() is None and steps_in(killed) < moment:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    run = pipeline.train(recipe, killed, checkpoints=2)
    assert all(is_adapter(folder) for folder in run.checkpoints)
    assert adapters(killed) == adapters(tmp_path / "whole")
