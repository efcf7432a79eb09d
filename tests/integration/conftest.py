"""Fixtures of the tests that run commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.chat_server import ChatServer
from tests.integration import priced


@pytest.fixture
def priced_files(desk: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suite, answers and judges on the desk, with a key for the judges."""
    monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key-12345")
    priced.lay_out(desk, server.url)
