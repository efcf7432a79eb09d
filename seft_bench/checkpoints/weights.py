"""Models loaded whole: every parameter comes from the checkpoint's safetensors, in its shape, and is a number.

transformers draws what a file lacks at random, and leaves out what the model does not know: a model of another
architecture, or one with a layer too few, would train and answer without a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError

NAMES_SHOWN = 4
NO_PARAMETERS = ("inv_freq", "masked_bias")
"""Ends of names in old files that hold nothing which is learnt."""


def load_whole(auto_class: Any, folder: str | Path, what: str, **options: Any) -> Any:
    """Load a model with all its weights; only safetensors, since other formats can run code when read.

    Args:
        auto_class: one of transformers' (`AutoModelForCausalLM`, ...).
        what: what messages call it ("causal language model").
        options: further arguments of `from_pretrained`.

    Raises:
        InputError: nothing of the kind is there, or weights are missing, unknown to the model, of another shape, or no
            finite numbers.
    """
    from safetensors import SafetensorError

    asked = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True, **options}
    try:
        with _unreported():
            model, report = auto_class.from_pretrained(str(folder), **asked)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"no {what} can be loaded from {folder}: {(str(error).splitlines() or ['?'])[0]}") from None
    if wrong := [*_differences(report), *_not_finite(model)]:
        raise InputError(
            f"the weights in {folder} are not those of the {type(model).__name__} that its config.json names: "
            f"{'; '.join(wrong)}. Save model and configuration together (save_pretrained)."
        )
    return model


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """Keep transformers' own table of differences back: ours says it in one message."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _differences(report: Mapping[str, Any]) -> Iterator[str]:
    """Say what the files lack or have too much of; weights that are tied to others are no difference."""
    if missing := report["missing_keys"]:
        yield f"{_some(missing)} missing, which would be drawn at random"
    if unknown := [name for name in report["unexpected_keys"] if not name.endswith(NO_PARAMETERS)]:
        yield f"{_some(unknown)} unknown to the model"
    shapes = [f"{name} {list(found)} for {list(wanted)}" for name, found, wanted in report["mismatched_keys"]]
    if shapes:
        yield f"{_some(shapes)} of another shape"
    if report["error_msgs"]:
        yield str(report["error_msgs"][0]).splitlines()[0]


def _not_finite(model: Any) -> Iterator[str]:
    import torch

    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    wrong = [
        name
        for name, weights in ((name, _here(parameter)) for name, parameter in model.named_parameters())
        if weights.dtype in kinds
        # One pass without a copy; only where the sum is none are the numbers looked at.
        and not torch.isfinite(weights.detach().sum(dtype=torch.float32))
        and not bool(torch.isfinite(weights).all())
    ]
    if wrong:
        yield f"{_some(wrong)} with NaN or infinite values"


def _here(parameter: Any) -> Any:
    """Of a parameter that several processes hold, this one's part."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


def _some(names: Any) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - NAMES_SHOWN} more" if len(ordered) > NAMES_SHOWN else ""
    return f"{len(ordered)} ({', '.join(ordered[:NAMES_SHOWN])}{more})"


def positions_of(config: Any) -> int | None:
    """The positions that a model has, also where the language model is a part of it; None where it names no number."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(found) if found else None
