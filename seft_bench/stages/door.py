"""The only door from `seft_bench` to the training package.

`door.methods` is the module `training.methods`, imported when it is first asked for: `training` in a checkout,
`seft_bench._training` in a wheel. Type checkers see the modules themselves.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training import (
        budgets,
        checkpoint,
        data,
        distributed,
        graders,
        kept,
        logprobs,
        loop,
        memory,
        methods,
        online,
        optimizers,
        packing,
        probe,
        reviser,
        revisers,
        rows,
        settings,
        shapes,
        stages,
        tokens,
        trackers,
        validation,
        watch,
    )

__all__ = [
    "budgets",
    "checkpoint",
    "data",
    "distributed",
    "graders",
    "kept",
    "logprobs",
    "loop",
    "memory",
    "methods",
    "online",
    "optimizers",
    "packing",
    "probe",
    "reviser",
    "revisers",
    "rows",
    "settings",
    "shapes",
    "stages",
    "tokens",
    "trackers",
    "validation",
    "watch",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _training(name)


def _training(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"seft_bench._training.{module}")
    except ModuleNotFoundError as error:
        if error.name not in ("seft_bench._training", f"seft_bench._training.{module}"):
            raise
    return importlib.import_module(f"training.{module}")
