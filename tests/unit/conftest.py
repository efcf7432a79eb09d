"""Fixtures of the unit tests: tiny tokenizers and models that are only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import make_tiny_reward_model, make_tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tiny_tokenizer()


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_reward_model(tmp_path_factory.mktemp("reward") / "tiny-reward", seed=1)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: sums have one order, and tests side by side do not fight for cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
