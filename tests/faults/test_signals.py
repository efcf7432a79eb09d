"""SIGINT, SIGTERM and SIGHUP in every stage of the commands: one line, the signal's status, nobody left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml

from seft_bench.config import config_folder
from tests.faults.chat_server import ChatServer, after
from tests.small_matrix import ENVIRONMENT, REPOSITORY, worker_pids, write_judge, write_matrix

TRAIN = ("train", "--out", "run")
STEPS = "settings.start.max_steps=100000"
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
BASE = str(REPOSITORY / "seft_bench" / "tinyworld" / "base")


@dataclass(frozen=True)
class Stage:
    """A moment of a command.

    Attributes:
        arguments: of the command.
        is_reached: asked again and again, in the command's folder.
        prepare: lays out what the command reads.
    """

    arguments: tuple[str, ...]
    is_reached: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def first(pattern: str, size: int = 1) -> Callable[[], object]:
    """Wait for a file that holds something."""
    return lambda: [path for path in Path().glob(pattern) if path.stat().st_size >= size]


SEFT = ("settings.evolution=external", "settings.rounds=1", "settings.prompts=600")
QUICK = tuple(f"settings.{stage}.max_steps=2" for stage in ("start", "preliminary", "reviser", "policy"))
STAGES = {
    "train": Stage((*TRAIN, "method=sft", STEPS), first("run/stages/start-*/train.jsonl", 500)),
    "draft": Stage((*TRAIN, *SEFT, *QUICK), first("run/stages/drafts-*/sampled.jsonl")),
    "answer": Stage(("eval", BASE, "--suite", "tiny-alpacaeval"), first("runs/evaluations/*/*/*/answers.jsonl")),
    "bench": Stage(
        ("bench", "small.yaml", "--out", "out"),
        first("out/stages/*/train.jsonl", 500),
        lambda: write_matrix(Path(), steps=100_000, seeds=[0, 1]),
    ),
}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "seft_bench.cli.main", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(process: subprocess.Popen[str], is_reached: Callable[[], object], number: signal.Signals) -> str:
    """Send a signal when a moment is reached; return what the command said."""
    end = time.monotonic() + 240
    while not is_reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)
    workers = worker_pids(process)
    process.send_signal(number)
    try:
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == SIGNALS[number], err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert [line for line in err.splitlines() if line.startswith("stopped")] == [
        "stopped; what was finished is kept, and the same command goes on"
    ]
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    return err


ALSO_BY_DEFAULT = {("train", signal.SIGHUP), ("judge", signal.SIGTERM)}


def pairs(*names: str) -> list[object]:
    """Pair stages with signals; all but a few are slow, as each starts a program."""
    return [
        pytest.param(name, number, marks=() if (name, number) in ALSO_BY_DEFAULT else pytest.mark.slow)
        for name in names
        for number in SIGNALS
    ]


@pytest.mark.parametrize(
    ("name", "number"),
    pairs(*STAGES),
)
def test_a_signal_stops_a_command_at_any_stage(desk: Path, name: str, number: signal.Signals) -> None:
    stage = STAGES[name]
    stage.prepare()
    stopped(start(*stage.arguments), stage.is_reached, number)


@pytest.mark.parametrize(("name", "number"), pairs("judge"))
def test_judging_is_stopped(desk: Path, server: ChatServer, name: str, number: signal.Signals) -> None:
    server.otherwise = after(120)
    judge = write_judge(Path(), server.url, 4)
    shipped = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    Path("few.yaml").write_text(yaml.safe_dump(shipped | {"name": "few", "max_questions": 3}))
    command = ("eval", "control:copy-prompt", "--suite", "few.yaml", "--judge", judge, "--yes")
    stopped(start(*command), lambda: server.bodies, number)


@pytest.fixture
def silent_origin() -> Iterator[tuple[str, Event]]:
    """A server of files that takes a request and never sends a byte of the file."""
    asked, over = Event(), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            asked.set()
            over.wait(120)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    origin = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=origin.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{origin.server_port}", asked
    over.set()
    origin.shutdown()


@pytest.mark.parametrize(("name", "number"), pairs("fetch"))
def test_fetching_is_stopped(
    desk: Path, silent_origin: tuple[str, Event], monkeypatch: pytest.MonkeyPatch, name: str, number: signal.Signals
) -> None:
    url, asked = silent_origin
    monkeypatch.setitem(ENVIRONMENT, "SEFT_BENCH_DATA_DIR", str(desk / "data"))
    monkeypatch.setitem(ENVIRONMENT, "HF_HUB_OFFLINE", "0")
    stopped(start("data", "fetch", "--base-url", url), asked.is_set, number)
