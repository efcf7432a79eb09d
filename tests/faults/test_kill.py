"""kill -9 and two processes: every judgment there once, and no more than the requests in flight paid for twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seft_bench.files import read_log
from seft_bench.inference.store import ResponseStore
from tests.faults.chat_server import after, serving

SCRIPT = Path(__file__).with_name("judge_run.py")
REPOSITORY = SCRIPT.parents[2]


def start(url: str, store: Path, judgments: Path, count: int, in_flight: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), url, str(store), str(judgments), str(count), str(in_flight)], env=environment
    )


@pytest.mark.parametrize("kills", [4, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_is_lost_and_little_is_paid_twice(tmp_path: Path, kills: int) -> None:
    count, in_flight = 24 * kills, 8
    store, judgments = tmp_path / "store.sqlite", tmp_path / "judgments.jsonl"
    moments = random.Random(1)
    with serving(otherwise=after(0.02)) as server:
        for _ in range(kills):
            process = start(server.url, store, judgments, count, in_flight)
            goal = server.answered + moments.randrange(3, 20)
            while server.answered < goal and process.poll() is None:
                time.sleep(0.001)
            assert process.poll() is None, "the run ended before it could be killed"
            process.send_signal(signal.SIGKILL)
            process.wait()
        last = start(server.url, store, judgments, count, in_flight)
        assert last.wait(60) == 0
        paid = len(server.bodies)
    keys = [row["key"] for row in read_log(judgments)]
    assert len(keys) == len(set(keys)) == count
    assert ResponseStore(store).stats()["responses"] == count
    assert count <= paid <= count + kills * in_flight


def test_two_processes_share_one_store(tmp_path: Path) -> None:
    count, store = 100, tmp_path / "store.sqlite"
    with serving(otherwise=after(0.01)) as server:
        both = [start(server.url, store, tmp_path / f"judgments-{number}.jsonl", count, 8) for number in range(2)]
        assert [process.wait(60) for process in both] == [0, 0]
        paid = len(server.bodies)
    for number in range(2):
        keys = {row["key"] for row in read_log(tmp_path / f"judgments-{number}.jsonl") if row["status"] == "ok"}
        assert len(keys) == count
    assert ResponseStore(store).stats()["responses"] == count
    assert paid <= 2 * count
