"""Runs the command line as a person would, in this process, and reports what they would see."""

from __future__ import annotations

import contextlib
import io
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


def good(seen: Seen, status: int = 0) -> Seen:
    """Return what was seen of a command that must have ended with this status."""
    assert seen.status == status, seen.err
    return seen


def overrides(settings: Sequence[str]) -> list[str]:
    return [f"settings.{setting}" for setting in settings]


STEPS = [f"{stage}.max_steps=2" for stage in ("start", "preliminary", "reviser", "policy")]
QUICK = overrides(["evolution=external", "rounds=1", "prompts=8", "drafts.max_new_tokens=8", *STEPS])
"""SEFT in seconds: every stage runs, none learns much."""
