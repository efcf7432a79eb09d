"""Fixtures of the unit tests: tiny tokenizers and models that are only read."""

from __future__ import annotations

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
