"""The wheel, installed away from the checkout: it holds everything, shadows nobody's `training`, and trains and
evaluates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from seft_bench import __version__
from tests.integration.cli import QUICK, REPOSITORY

SHIPPED = ("training", "eval_configs")
"""Folders of the checkout that the wheel holds inside the package, each with an underscore before its name."""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def succeed(*command: str, folder: Path) -> str:
    done = run(*command, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the extra dev brings hatchling")
    out = tmp_path_factory.mktemp("dist")
    succeed(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY), folder=out
    )
    [built] = out.glob("*.whl")
    return built


@dataclass(frozen=True)
class Elsewhere:
    """An environment that has the wheel, and an empty folder to work in. The libraries are borrowed from this one."""

    program: str
    python: str
    folder: Path


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    root = tmp_path_factory.mktemp("elsewhere")
    succeed(sys.executable, "-m", "venv", "--without-pip", str(root / "venv"), folder=root)
    python = root / "venv" / "bin" / "python"
    packages = Path(
        succeed(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=root).strip()
    )
    libraries = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (packages / "borrowed.pth").write_text(
        "\n".join(libraries) + "\n"
    )  # as paths only: an editable install's own .pth is not followed
    succeed(
        sys.executable,
        "-m",
        "pip",
        f"--python={python}",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
        folder=root,
    )
    (root / "work").mkdir()
    return Elsewhere(str(root / "venv" / "bin" / "seft-bench"), str(python), root / "work")


def test_the_wheel_holds_everything_that_git_holds(wheel: Path) -> None:
    """Every file of the three folders, where it belongs; nothing else; no test, no cache."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {str(path.relative_to(REPOSITORY)) for path in _files("seft_bench")}
    for folder in SHIPPED:
        expected |= {f"seft_bench/_{path.relative_to(REPOSITORY)}" for path in _files(folder)}
    assert held == expected
    assert {
        "seft_bench/_training/recipes/tiny-seft.yaml",
        "seft_bench/_eval_configs/suites/mtbench.yaml",
        "seft_bench/tinyworld/base/model.safetensors",
        "seft_bench/tinyworld/base-no-threads/model.safetensors",
    } <= held


def _files(folder: str) -> list[Path]:
    return [
        path
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]


def test_the_wheel_is_small_and_named_after_its_version(wheel: Path) -> None:
    assert wheel.name == f"seft_bench-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 4_500_000


def test_nothing_comes_from_the_checkout(elsewhere: Elsewhere) -> None:
    """The package is the installed one, and `training` stays the user's own name."""
    code = "import importlib.util as u, seft_bench; print(seft_bench.__file__); print(u.find_spec('training'))"
    where, training = succeed(elsewhere.python, "-c", code, folder=elsewhere.folder).splitlines()
    assert Path(where).is_relative_to(Path(elsewhere.python).parent.parent)
    assert training == "None"


def test_it_trains_and_evaluates(elsewhere: Elsewhere) -> None:
    assert "seft\t" in succeed(elsewhere.program, "methods", "list", folder=elsewhere.folder)
    assert "tiny-mtbench\t" in succeed(elsewhere.program, "suites", "list", folder=elsewhere.folder)
    checkpoints = succeed(elsewhere.program, "train", *QUICK, folder=elsewhere.folder).split()
    assert len(checkpoints) == 2
    shipped = json.loads(succeed(elsewhere.program, "suites", "show", "tiny-mtbench", folder=elsewhere.folder))
    (elsewhere.folder / "few.yaml").write_text(json.dumps(shipped | {"max_questions": 4}))
    printed = succeed(
        elsewhere.program, "eval", checkpoints[-1], "--suite", "few.yaml", "--json", folder=elsewhere.folder
    )
    assert printed.count('"suite": "tiny-mtbench"') == 2  # sampled and greedy
    assert (elsewhere.folder / "results" / "leaderboard.md").is_file()
    assert "to run" in succeed(elsewhere.program, "bench", "tinyworld", "--dry-run", folder=elsewhere.folder)


def test_bad_input_is_said_as_clearly_as_in_the_checkout(elsewhere: Elsewhere) -> None:
    done = run(elsewhere.program, "train", "method=nope", folder=elsewhere.folder)
    assert done.returncode == 2
    assert "unknown method 'nope'" in done.stderr
    assert "Traceback" not in done.stderr
