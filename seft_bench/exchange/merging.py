"""`seft-bench export --merge`: the whole model of an adapter over its base, as every other tool reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seft_bench.checkpoints import fetch_from_hub, is_adapter, is_checkpoint, refuse_aligner
from seft_bench.checkpoints.steps import checkpoints_below, last_checkpoint
from seft_bench.console import says_who
from seft_bench.errors import InputError

if TYPE_CHECKING:
    from seft_bench.checkpoints.merging import MergedModel


def merge_model(model: str, out: Path, dtype: str) -> MergedModel:
    """Write the whole model of an adapter to `out`.

    Args:
        model: folder of an adapter, of a run (its last checkpoint), or a hub id.
        dtype: number format of its weights: float32, bfloat16, or auto, the base's unless that loses.

    Raises:
        InputError: there is no adapter, its base is not to be found, or `out` holds something else.
    """
    from seft_bench.checkpoints.merging import merged_model

    return merged_model(_adapter(model), out, dtype, says_who(f"merges into {out}"))


def _adapter(model: str) -> Path:
    path = Path(model)
    if not path.exists() and model.count("/") == 1 and not model.startswith((".", "/")):
        path = fetch_from_hub(model, "model")
    found = path if is_checkpoint(path) else last_checkpoint(path) if path.is_dir() else None
    if found is None:
        there = ", ".join(child.name for child in checkpoints_below(path)) if path.is_dir() else ""
        several = f"; it holds several models ({there}): name one" if there else ""
        raise InputError(f"no adapter in {model!r}: --merge takes a folder with adapter_config.json, or a run{several}")
    refuse_aligner(found, "model")
    if not is_adapter(found):
        raise InputError(f"{found} is a whole model already (it has config.json): there is nothing to merge")
    return found
