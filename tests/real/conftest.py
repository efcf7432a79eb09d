"""Fixtures of the tests on a real model: SmolLM2 as a checkpoint folder, and data sets of real pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.model import PACKAGE, gguf_folder, write_smollm2
from tests.real.pairs import write_real_data


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a checkpoint folder, in bfloat16."""
    source = gguf_folder()
    if source is None:
        pytest.skip(f"the package {PACKAGE} with the model's weights is not installed: `make test-real`")
    return write_smollm2(source, tmp_path_factory.mktemp("real") / "smollm2-135m")


@pytest.fixture(scope="session")
def real_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of JSONL data sets of real pairs, and `held_out`, which nothing is trained on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
        return write_real_data(shared_data, tmp_path_factory.mktemp("pairs"))
