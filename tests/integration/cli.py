"""Runs the command line as a person would, in this process, and reports what they would see."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from seft_bench.cli import main as cli

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Seen:
    """Exit status, and the two streams as text."""

    status: int
    out: str
    err: str


def seft_bench(*arguments: str) -> Seen:
    """`seft-bench ARGUMENTS` in the current folder."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["seft-bench", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as leaving:
            return Seen(int(leaving.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() always ends with SystemExit")


def in_its_own_process(*arguments: str, folder: Path) -> Seen:
    """The same in a new process, for what needs one: worker processes, kills, a clean memory."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "seft_bench.cli.main", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return Seen(done.returncode, done.stdout, done.stderr)


def overrides(settings: Sequence[str]) -> list[str]:
    return [f"settings.{setting}" for setting in settings]


STEPS = [f"{stage}.max_steps=2" for stage in ("start", "preliminary", "reviser", "policy")]
QUICK = overrides(["evolution=external", "rounds=1", "prompts=8", "drafts.max_new_tokens=8", *STEPS])
"""SEFT in seconds: every stage runs, none learns much."""
