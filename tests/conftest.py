"""Fixtures shared by all tests: isolation from the user's environment, and where the real test material lies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The folder with the real AlpacaEval and MT-Bench material: SEFT_BENCH_SHARED, else ../shared beside the
    checkout.
    """
    return Path(os.environ.get("SEFT_BENCH_SHARED") or REPOSITORY.parent / "shared")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The `data` folder of the shared material; the test is skipped, saying so, where it is absent."""
    folder = shared_folder() / "data"
    if not folder.is_dir():
        pytest.skip(f"SHARED DATA ABSENT: {folder} (set SEFT_BENCH_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's keys, data folder or store, and none reaches for the hub."""
    for name in ("OPENAI_API_KEY", "SEFT_BENCH_DATA_DIR", "SEFT_BENCH_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# How many tests over the shared data ran: a check that skips them silently would prove nothing.


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shared_data: set by the fixture of that name; never by hand")
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # as a shell starts what runs in its background; tests of Ctrl-C and their children need it back
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
