"""Two commands in one folder: the second says who is at work, waits, and takes what the first has made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seft_bench import results
from seft_bench.errors import InputError
from seft_bench.evaluation import plan
from seft_bench.files import held, locked, read_log
from seft_bench.report import sheets
from seft_bench.stages.holds import RUN, RUN_LOCK
from tests.small_matrix import ENVIRONMENT

TRAIN = ["train", "method=sft", "settings.start.max_steps=20", "--out", "run"]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "seft_bench.cli.main", *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_training_says_at_once_who_is_at_work_and_goes_on_when_it_may(desk: Path) -> None:
    RUN.mark(Path("run"))
    with locked(Path("run") / RUN_LOCK):
        second = start(*TRAIN)
        assert second.stderr is not None
        line = second.stderr.readline()
    assert f"another command trains in run (process {os.getpid()} on " in line
    assert ", since 20" in line
    assert "waiting for it" in line
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert out.split() == ["run/checkpoints/step-000010", "run/checkpoints/step-000020"]


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_two_trainings_at_once_make_one_run(desk: Path, fresh: list[str]) -> None:
    both = [start(*TRAIN, *fresh) for _ in range(2)]
    ends = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert ends[0][0] == ends[1][0]
    assert "Traceback" not in ends[0][1] + ends[1][1]
    [log] = Path("run/stages").glob("start-*/train.jsonl")
    assert [row["step"] for row in read_log(log)] == list(range(1, 21))


def test_a_table_that_is_written_knows_all_results(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From reading the results to writing the tables nobody may add one, which the tables would then lack."""
    read = sheets.plain_sheets

    def reading(folder: Path) -> sheets.Sheets:
        with pytest.raises(InputError, match="busy"), held(folder / ".results.lock", "busy"):
            pass
        return read(folder)

    monkeypatch.setattr(sheets, "plain_sheets", reading)
    with pytest.raises(InputError, match="no results"):
        plan.write_leaderboard(Path("results"))
    with results.changing(Path("results")):
        pass
