"""Exit statuses are a contract, and messages name what is known."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seft_bench import errors
from tests.conftest import REPOSITORY


def test_exit_statuses_are_those_of_the_documentation() -> None:
    names = ("OK", "CRASH", "USAGE", "REGRESSED", "INCONCLUSIVE", "WITHHELD", "UNAVAILABLE")
    assert [getattr(errors, f"EXIT_{name}") for name in names] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.InputError, 2),
        (errors.WithheldError, 5),
        (errors.ServiceUnavailableError, 6),
        (errors.JudgeUnavailableError, 6),
    ],
)
def test_every_error_has_its_status(kind: type[errors.SeftBenchError], status: int) -> None:
    assert kind("x").exit_status == status
    assert issubclass(kind, errors.SeftBenchError)


def test_unknown_names_list_the_known_ones_in_order() -> None:
    assert str(errors.unknown_name("suite", "mt", ["b", "a"])) == "unknown suite 'mt': known are a, b"
    assert str(errors.unknown_name("suite", "mt", [], "Write one.")) == "unknown suite 'mt': known are none. Write one."


def test_a_full_disk_is_told_from_other_failures_however_it_is_said() -> None:
    said = errors.no_room(OSError(errno.ENOSPC, "No space left on device", "runs/x"))
    assert said is not None
    assert said.startswith("no room to write runs/x (No space left on device)")
    assert errors.no_room(OSError(errno.EACCES, "Permission denied", "runs/x")) is None
    assert errors.no_room(RuntimeError("(os error 28)")) is None


def test_a_checkpoint_that_finds_the_disk_full_is_no_defect(tmp_path: Path) -> None:
    """A limit on a file's size is refused as a full disk is, by the system itself; a process of its own, as the limit
    stays.
    """
    code = (
        "import resource, signal, numpy as np; from safetensors.numpy import save_file; from seft_bench.errors import "
        "no_room\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: save_file({'weights': np.zeros(100_000)}, 'x.safetensors')\n"
        "except Exception as error: print(type(error).__name__, no_room(error))"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("SafetensorError no room to write a checkpoint")
    assert "free some disk space" in done.stdout
