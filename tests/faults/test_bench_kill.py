"""kill -9 of a bench's driver and of its workers: the rest is done, nothing twice, and the tables are the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests import small_matrix
from tests.faults.chat_server import after, serving
from tests.integration.cli import good

LONG = {"steps": 40, "questions": 8}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same matrix, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    good(small_matrix.run_here(small_matrix.write_matrix(folder, **LONG), folder / "out"))
    return folder / "out"


def test_a_killed_worker_is_replaced_and_its_cell_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = small_matrix.start(small_matrix.write_matrix(tmp_path, **LONG), out)
    small_matrix.wait_for(
        lambda: [path for path in out.glob("stages/*/train.jsonl") if path.stat().st_size > 200], process
    )
    victims = small_matrix.worker_pids(process)
    assert len(victims) == 2
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert process.wait(300) == 0, out.with_suffix(".log").read_text()
    assert "runs again: its worker process was lost" in out.with_suffix(".log").read_text()
    small_matrix.nothing_was_done_twice(out)
    assert small_matrix.tables(out) == small_matrix.tables(whole)


def test_a_worker_that_is_lost_again_and_again_fails_its_cell_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = small_matrix.start(
        small_matrix.write_matrix(tmp_path, steps=2000), out, "--retries", "0", "--only", "chosen-seed0"
    )
    small_matrix.wait_for(lambda: list(out.glob("stages/*/train.jsonl")), process)
    os.kill(small_matrix.worker_pids(process)[0], signal.SIGKILL)
    assert process.wait(120) == 1
    assert "FAILED chosen-seed0: its worker process was lost" in out.with_suffix(".log").read_text()
    assert "lost" in (out / "cells" / "chosen-seed0" / "error.txt").read_text()


def test_a_killed_driver_leaves_no_worker_behind_and_goes_on(whole: Path, tmp_path: Path) -> None:
    out, matrix = tmp_path / "out", small_matrix.write_matrix(tmp_path, **LONG)
    process = small_matrix.start(matrix, out)
    small_matrix.wait_for(lambda: list(out.glob("stages/*/stage.json")), process)
    workers = small_matrix.worker_pids(process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("stages/*/stage.json")}
    good(small_matrix.run_here(matrix, out))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not [pid for pid in workers if _is_running(pid)]
    small_matrix.nothing_was_done_twice(out)
    assert small_matrix.tables(out) == small_matrix.tables(whole)


def _is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_verdicts_are_paid_once_over_a_killed_driver(tmp_path: Path) -> None:
    out, in_flight = tmp_path / "out", 2
    with serving(otherwise=after(0.05)) as server:
        matrix = small_matrix.write_matrix(
            tmp_path, questions=8, workers=1, judge=small_matrix.write_judge(tmp_path, server.url, in_flight)
        )
        process = small_matrix.start(matrix, out)
        small_matrix.wait_for(lambda: server.answered >= 10, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(server.bodies)
        good(small_matrix.run_here(matrix, out))
        assert len(server.bodies) > before
        probes = 1  # each run asks the judge once whether it can grade
        assert small_matrix.asked_twice(server.bodies) <= in_flight + probes
        paid = len(server.bodies)
        good(small_matrix.run_here(matrix, out))
        assert len(server.bodies) == paid
    small_matrix.nothing_was_done_twice(out)


def test_a_second_driver_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    out, matrix = tmp_path / "out", small_matrix.write_matrix(tmp_path, steps=2000, workers=1)
    process = small_matrix.start(matrix, out)
    small_matrix.wait_for(lambda: list(out.glob("stages/*/train.jsonl")), process)
    second = good(small_matrix.run_here(matrix, out), status=2)
    assert f"another bench is at work in {out}" in second.err
    assert f"process {process.pid} on " in second.err
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
