"""Whole models of adapters, for engines that take no adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from seft_bench.checkpoints import fingerprint, is_adapter
from seft_bench.checkpoints.merging import merged_model


class WholeModels:
    """Whole models of adapters, for engines that take no others: written when first asked for, gone when closed.

    Args:
        beside: the folder that theirs is made in.
        say: is told what the base's number format would have lost.
    """

    def __init__(self, beside: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._beside, self._say = beside, say
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def of(self, folder: Path) -> Path:
        """Return the folder itself, or that of the model that an adapter gives, in a place of its own.

        It is in float32 where the base's format would lose of the adapter's update, and served in it then
        (`needs_float32`).
        """
        if not is_adapter(folder):
            return folder
        if self._folder is None:
            self._beside.mkdir(parents=True, exist_ok=True)
            self._folder = tempfile.TemporaryDirectory(prefix="merged-", dir=self._beside)
        place = Path(self._folder.name) / fingerprint(folder)[:16]
        is_new = not place.exists()
        done = merged_model(folder, place)
        for line in done.notes() if is_new else ():
            self._say(f"{folder.name} for vLLM: {line}")
        return done.folder

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
        self._folder = None
