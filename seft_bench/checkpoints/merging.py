"""Adapters merged into the weights of their bases, and how much of its update a merge in a number format keeps.

A base in bfloat16 lies exactly on that format's grid. An adapter changes most weights by less than half the distance to
the next number on it, so where the sum is rounded back, such changes vanish, all of them: the model is partly its base
again. So sums are made in float32, what rounding keeps of them is measured on the way, and a format that loses is
refused by `auto` and never taken silently.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench.checkpoints import FACTS, check_adapter, facts_of, fingerprint, tokenizer_folder
from seft_bench.checkpoints.adapters import load_adapter, quiet_peft, write_folder
from seft_bench.checkpoints.classifiers import load_base
from seft_bench.errors import InputError
from seft_bench.files import locked, write_json
from seft_bench.records import Row

AUTO, FORMATS = "auto", ("float32", "bfloat16")
MERGED_FROM, MERGED = "merged_from", "merged"
"""Keys of a merged model's checkpoint.json: the adapter's fingerprint; format, and what it keeps."""
LOST_ALONG, LOST_ASIDE = 0.01, 0.1
"""A format loses where more than these shares of an update are missing along it, or are noise beside it."""
TOKENIZER_FILES = ("tokenizer*", "special_tokens*", "added_tokens*", "vocab*", "merges*", "*.jinja", "*.model")


@dataclass(frozen=True)
class Kept:
    """What a number format keeps of an update (merged weights minus the base's), over all weights that it changes.

    Attributes:
        share: projection of the rounded change on the update: 1 keeps it whole, 0 is the base again.
        error: norm of the rounded change minus the update, over the update's norm.
    """

    share: float = 1.0
    error: float = 0.0

    @property
    def loses(self) -> bool:
        return abs(1 - self.share) > LOST_ALONG or self.error > LOST_ASIDE

    def record(self) -> Row:
        return {"share_kept": self.share, "relative_error": self.error}

    def __str__(self) -> str:
        return f"{self.share:.1%} of the adapter's update, with a relative error of {self.error:.1%}"


class Tally:
    """Adds up, tensor by tensor, what a number format keeps of an update."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self._along, self._update, self._error = 0.0, 0.0, 0.0

    def add(self, before: Any, merged: Any) -> None:
        """Count one tensor, by its values before and after the merge, both in float32."""
        update = merged - before
        change = merged.to(self.dtype).float() - before
        self._along += _dot(change, update)
        self._update += _dot(update, update)
        change -= update
        self._error += _dot(change, change)

    def kept(self) -> Kept:
        if not self._update:
            return Kept()
        return Kept(round(self._along / self._update, 6), round(math.sqrt(self._error / self._update), 6))


def _dot(left: Any, right: Any) -> float:
    import torch

    return float((left * right).sum(dtype=torch.float64))


def merge_adapter(model: Any, adapter: Path, measured: Any | None = None) -> tuple[Any, Kept]:
    """Add an adapter to the weights of its base; return the whole model, and what a format keeps of the update.

    Each layer's sum is made in float32 and rounded once, to the type that the layer has.

    Args:
        model: the base, as transformers loaded it; its weights change.
        measured: the torch dtype to measure; None is the model's own. float32 counts as keeping all.

    Raises:
        InputError: the adapter cannot be loaded, or does not belong over this model.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    tally = Tally(measured or model.dtype)
    with quiet_peft(), torch.no_grad():
        loaded = load_adapter(model, adapter)
        for layer in [module for module in loaded.modules() if isinstance(module, BaseTunerLayer)]:
            _merge_layer(layer, tally)
        merged = loaded.merge_and_unload(safe_merge=True)  # which finds all merged, and takes the layers' places
    return merged.requires_grad_(True), tally.kept()  # peft froze what it laid the adapter over


def _merge_layer(layer: Any, tally: Tally) -> None:
    import torch

    parameters = dict(layer.get_base_layer().named_parameters(recurse=False))
    own = {name: parameter.dtype for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
    measures = tally.dtype != torch.float32
    before = {name: parameter.data.clone() for name, parameter in parameters.items()} if measures else {}
    layer.merge(safe_merge=True)
    for name, values in before.items():
        tally.add(values, parameters[name].data)
    for name, parameter in parameters.items():
        parameter.data = parameter.data.to(own[name])


def lay_over(base: Any, adapter: Path) -> Any:
    """Return what a base with its adapter computes, for inference: merged where that loses nothing.

    In a type below float32 the adapter stays beside the base's weights, which costs two thin products a layer.

    Args:
        base: as transformers loaded it; it becomes part of what is returned.

    Raises:
        InputError: see `merge_adapter`.
    """
    import torch

    if base.dtype == torch.float32:
        return merge_adapter(base, adapter)[0]
    return load_adapter(base, adapter).get_base_model()


def needs_float32(folder: Path) -> bool:
    """Return whether a folder is a merged model in float32 of whose update its base's format would lose."""
    dtype, kept = _recorded(folder)
    return dtype == "float32" and any(one.loses for one in kept.values())


@dataclass(frozen=True)
class MergedModel:
    """A whole model on disk that an adapter and its base were made into.

    Attributes:
        folder: where it lies.
        dtype: the number format of its weights ("float32").
        kept: format -> what it keeps of the update: the written one, and the base's own.
    """

    folder: Path
    dtype: str
    kept: dict[str, Kept]

    def losses(self) -> list[str]:
        """Say what the written format lost, if anything is to be said."""
        kept = self.kept.get(self.dtype)
        if kept is None or not kept.loses:
            return []
        return [
            f"merged in {self.dtype}, {self.folder} keeps {kept}: it is another model than the one that was trained. "
            "float32 keeps all"
        ]

    def notes(self) -> list[str]:
        """Say what was lost, and what the base's format would have lost."""
        others = {name: kept for name, kept in self.kept.items() if name != self.dtype and kept.loses}
        spared = [f"merged in {self.dtype}: {name}, the base's format, would keep {others[name]}" for name in others]
        return self.losses() + spared


def merged_model(
    adapter: Path, out: Path, dtype: str = AUTO, on_wait: Callable[[str], None] = lambda holder: None
) -> MergedModel:
    """Write the whole model of an adapter over its base. Its tokenizer is the adapter's.

    One that is there already is taken as it is; a killed one leaves nothing.

    Args:
        dtype: "float32", "bfloat16", or "auto": the base's own, unless that loses; float32 then.
        on_wait: told who merges into the same folder, before waiting for it.

    Raises:
        InputError: the adapter or its base cannot be loaded, `dtype` is unknown, or `out` holds something else.
    """
    if dtype not in (AUTO, *FORMATS):
        raise InputError(f"unknown number format {dtype!r} to merge in: it is {AUTO}, {' or '.join(FORMATS)}")
    check_adapter(adapter)
    made_of = fingerprint(adapter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f".{out.name}.lock"), on_wait):
        if not (out.exists() and any(out.iterdir())):
            return _write_merged(adapter, out, dtype, made_of)
        return _merged_before(adapter, out, dtype, made_of)


def _merged_before(adapter: Path, out: Path, dtype: str, made_of: str) -> MergedModel:
    if facts_of(out).get(MERGED_FROM) != made_of:
        raise InputError(f"{out} holds something else than {adapter} merged into its base: name another folder")
    found, kept = _recorded(out)
    if dtype not in (AUTO, found):
        raise InputError(
            f"{out} holds {adapter} merged in {found or 'another format'}: name another folder, or remove it"
        )
    return MergedModel(out, found, kept)


def _write_merged(adapter: Path, out: Path, asked: str, made_of: str) -> MergedModel:
    import torch

    loaded = load_base(adapter, dtype="auto")
    measured = torch.bfloat16 if asked == "bfloat16" else loaded.dtype
    model, kept = merge_adapter(loaded.float(), adapter, measured)
    written = torch.float32 if asked == "float32" or (asked == AUTO and kept.loses) else measured
    done = MergedModel(out, format_name(written), {format_name(written): Kept()} | {format_name(measured): kept})
    model.to(written)
    facts = {key: value for key, value in facts_of(adapter).items() if key != "base"}
    facts |= {MERGED_FROM: made_of, MERGED: _record(done)}

    def write(folder: Path) -> None:
        model.save_pretrained(str(folder))
        _copy_tokenizer(tokenizer_folder(adapter), folder)
        write_json(folder / FACTS, facts)

    write_folder(out, write)
    return done


def _recorded(folder: Path) -> tuple[str, dict[str, Kept]]:
    """Read what `_record` wrote; of any other folder, whatever its checkpoint.json says, nothing."""
    try:
        merged = facts_of(folder)[MERGED]
        rows = merged["kept"].items()
        return merged["dtype"], {name: Kept(row["share_kept"], row["relative_error"]) for name, row in rows}
    except (KeyError, TypeError, AttributeError):
        return "", {}


def _record(done: MergedModel) -> Row:
    return {"dtype": done.dtype, "kept": {name: kept.record() for name, kept in done.kept.items()}}


def format_name(dtype: Any) -> str:
    """Return the name of a torch dtype, as configurations have it."""
    return str(dtype).removeprefix("torch.")


def _copy_tokenizer(source: Path, target: Path) -> None:
    for path in sorted({path for pattern in TOKENIZER_FILES for path in source.glob(pattern) if path.is_file()}):
        shutil.copyfile(path, target / path.name)
