"""The only door from `seft_bench` to the training package."""

from __future__ import annotations

import importlib
from typing import Any


def training(module: str) -> Any:
    """A module of the training package: `training` in a checkout, `seft_bench._training` in a wheel."""
    try:
        return importlib.import_module(f"seft_bench._training.{module}")
    except ModuleNotFoundError as error:
        if error.name not in ("seft_bench._training", f"seft_bench._training.{module}"):
            raise
    return importlib.import_module(f"training.{module}")
