"""Whole models of adapters, for engines that take no adapters."""

from __future__ import annotations

import tempfile
from pathlib import Path

from seft_bench.checkpoints import fingerprint, is_adapter
from seft_bench.checkpoints.merging import merged_model


class WholeModels:
    """Whole models of adapters, for engines that take no others: written when first asked for, gone when closed."""

    def __init__(self, beside: Path) -> None:
        self._beside = beside
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def of(self, folder: Path) -> Path:
        """Return the folder itself, or that of the model that an adapter gives, in a place of its own."""
        if not is_adapter(folder):
            return folder
        if self._folder is None:
            self._beside.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix="merged-", dir=self._beside)
        return merged_model(folder, Path(self._folder.name) / fingerprint(folder)[:16]).folder

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None
