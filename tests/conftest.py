"""Fixtures shared by all tests: isolation from the user's environment, and where the real test material lies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.chat_server import ChatServer

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """Return the folder of the real AlpacaEval and MT-Bench material.

    It is SEFT_BENCH_SHARED, else ../shared beside the checkout.
    """
    return Path(os.environ.get("SEFT_BENCH_SHARED") or REPOSITORY.parent / "shared")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The `data` folder of the shared material; the test is skipped, saying so, where it is absent."""
    folder = shared_folder() / "data"
    if not folder.is_dir():
        pytest.skip(f"SHARED DATA ABSENT: {folder} (set SEFT_BENCH_SHARED)")
    return folder


@pytest.fixture
def official_data(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, and the commands find the suites' official files in it."""
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    return shared_data


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the test works, as a person with a cache of their own does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A chat-completions server on this machine, which keeps what it is asked."""
    from tests.faults.chat_server import serving

    with serving() as started:
        yield started


@pytest.fixture
def cells_in_this_process() -> Iterator[None]:
    """No bench that this process runs starts a worker (see `small_matrix.cells_here`)."""
    from tests.small_matrix import cells_here

    with cells_here():
        yield


@pytest.fixture
def pairwise_files(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small official files of MT-Bench comparisons on the desk, a suite over them, and a model's answers."""
    from tests.pairwise_files import lay_out

    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(desk / "data"))
    lay_out(desk)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, for tests that only read it."""
    from tests.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two of one architecture, whose weights vLLM can exchange; for tests that only read them."""
    from tests.tiny_model import VLLM_HIDDEN_SIZE, make_tiny_model

    folder = tmp_path_factory.mktemp("checkpoints")
    first, second = (
        make_tiny_model(folder / name, seed=seed, hidden_size=VLLM_HIDDEN_SIZE, tied=False)
        for seed, name in enumerate("ab")
    )
    return first, second


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's keys, data folder or store, and none reaches for the hub."""
    for name in ("OPENAI_API_KEY", "SEFT_BENCH_DATA_DIR", "SEFT_BENCH_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# How many tests over the shared data ran: a check that skips them silently would prove nothing.


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shared_data: set by the fixture of that name; never by hand")
    # A shell starts what runs in its background without Ctrl-C; the tests of it, and their children, need it back.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("shared_data")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {
        outcome: _over_shared_data(terminalreporter, outcome) for outcome in ("passed", "failed", "error", "skipped")
    }
    ran = counts["passed"] + counts["failed"] + counts["error"]
    terminalreporter.write_line(f"tests over the shared data: {ran} ran, {counts['skipped']} skipped")


def _over_shared_data(reporter: pytest.TerminalReporter, outcome: str) -> int:
    reports = reporter.stats.get(outcome, [])
    return len({report.nodeid for report in reports if "shared_data" in getattr(report, "keywords", {})})
