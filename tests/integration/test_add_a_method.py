"""docs/add-a-method.md followed literally, in a copy of the two packages: its methods are listed and trained."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
STEPS = ("settings.start.max_steps=2", "settings.policy.max_steps=2")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two packages with every block of the page at the end of the file that it names."""
    root = tmp_path_factory.mktemp("copy")
    for package in ("seft_bench", "training", "eval_configs"):
        shutil.copytree(REPOSITORY / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = BLOCK.findall((REPOSITORY / "docs" / "add-a-method.md").read_text(encoding="utf-8"))
    assert len(blocks) == 5
    for name, code in blocks:
        with open(root / name, "a", encoding="utf-8") as file:
            file.write(f"\n\n{code}")
    return root


def run(copy: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "seft_bench", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["squared-hinge", "labelled-hinge", "twice"])
def test_what_the_page_adds_is_listed_and_trained(method: str, copy: Path, tmp_path: Path) -> None:
    assert method in run(copy, tmp_path, "methods", "list")
    steps = [*STEPS, "settings.good.max_steps=2"] if method == "twice" else STEPS
    run(copy, tmp_path, "train", f"method={method}", f"name={method}", "base=tinyworld", "data=tinyworld", *steps)
    (losses,) = (tmp_path / "runs").glob(f"{method}/stages/{method}-*/train.jsonl")
    assert len(losses.read_text().splitlines()) == 2
