"""Models loaded whole: every parameter comes from the checkpoint's safetensors, in its shape, and is a number.

transformers draws what a file lacks at random, and leaves out what the model does not know: a model of another
architecture, or one with a layer too few, would train and answer without a word. So do weights that are no numbers:
every judge reads the same nonsense, and grades it alike.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import Stamp, check_safetensors, folder_stamp
from seft_bench.records import Row

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
    model, report = _loaded(auto_class, folder, what, options)
    if wrong := [*_differences(report), *_not_finite(_tensors_of(model))]:
        raise _other_weights(folder, type(model).__name__, wrong)
    return model


def check_folder(folder: Path, trust_remote_code: bool = False) -> None:
    """Hold a folder that another program will load (vLLM) to the rule of `load_whole`, without building the model.

    Names and shapes come from the headers alone; the numbers are read once, tensor by tensor, while the files stay as
    they are. Names of quantised weights are left to the engine: they are not those of the architecture.

    Raises:
        InputError: as of `load_whole`.
    """
    _check_folder_at(folder.absolute(), trust_remote_code, folder_stamp(folder))


@functools.lru_cache(maxsize=64)
def _check_folder_at(folder: Path, trust_remote_code: bool, _stamp: Stamp) -> None:
    check_safetensors(folder)
    config = load_config(folder, trust_remote_code)
    wrong = list(_not_finite(_tensors_in(folder)))
    architecture = (getattr(config, "architectures", None) or ["model"])[0]
    if (known := _class_of(architecture)) and not getattr(config, "quantization_config", None):
        _, report = _loaded(known, folder, architecture, {"dtype": "auto", "device_map": "meta"})
        wrong = [*_differences(report), *wrong]
    if wrong:
        raise _other_weights(folder, architecture, wrong)


def check_tensors(tensors: Mapping[str, Any], what: str) -> None:
    """Refuse tensors that are no finite numbers.

    Args:
        what: they are of, for the message.

    Raises:
        InputError: naming the first few.
    """
    if wrong := list(_not_finite(tensors.items())):
        raise InputError(f"{what} cannot be used: {wrong[0]}. Train or save it again.")


def load_config(folder: str | Path, trust_remote_code: bool = False) -> Any:
    """Read the configuration of a whole model's folder or hub id.

    Raises:
        InputError: there is none, or it is of no model that transformers knows.
    """
    from transformers import AutoConfig

    local = {"local_files_only": True} if Path(folder).is_dir() else {}
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=trust_remote_code, **local)
    except Exception as error:  # whatever transformers makes of a file that is not ours
        raise InputError(f"the configuration of {folder} cannot be read: {first_line(error)}") from None


def no_numbers(what: str) -> InputError:
    """Return the error for a model that computes NaN or infinite values, of which no figure may be made."""
    return InputError(
        f"{what} computes no finite numbers (NaN or infinite): its weights are broken, or overflow in their number "
        "format. Load it in bfloat16 or float32 rather than float16, or save it again; nothing was made of it."
    )


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _class_of(architecture: str) -> Any:
    """Return transformers' own class of that name, None where it has none (a model with code of its own)."""
    import transformers

    return getattr(transformers, architecture, None)


def _loaded(auto_class: Any, folder: str | Path, what: str, options: Mapping[str, Any]) -> tuple[Any, Row]:
    import torch

    asked = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True, **options}
    try:
        with _unreported():
            model, report = auto_class.from_pretrained(str(folder), **asked)
    except (torch.OutOfMemoryError, MemoryError):
        raise  # nothing is wrong with the folder
    except Exception as error:  # whatever transformers makes of files that are not ours
        raise InputError(f"no {what} can be loaded from {folder}: {first_line(error)}") from None
    return model, report


def _other_weights(folder: str | Path, architecture: str, wrong: Iterable[str]) -> InputError:
    return InputError(
        f"the weights in {folder} are not those of the {architecture} that its config.json names: {'; '.join(wrong)}. "
        "Save model and configuration together (save_pretrained)."
    )


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


def _tensors_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield weights, and buffers that files hold (statistics of a normalisation, biases of a router)."""
    held = model.state_dict(keep_vars=True)
    yield from ((name, _here(tensor)) for name, tensor in held.items() if hasattr(tensor, "dtype"))


def _tensors_in(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the tensors of a folder's files, one after the other."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    yield name, opened.get_tensor(name)
        except SafetensorError as error:
            raise InputError(f"{path} cannot be read: {first_line(error)}. Copy, download or save it again.") from None


def _not_finite(tensors: Iterable[tuple[str, Any]]) -> Iterator[str]:
    import torch

    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    wrong = [name for name, weights in tensors if weights.dtype in kinds and not _all_finite(weights.detach())]
    if wrong:
        yield f"{_some(wrong)} with NaN or infinite values"


def _all_finite(weights: Any) -> bool:
    """Look at the ends of a tensor, NaN being both: one pass without a copy, 30 times as fast as `isfinite`."""
    import torch

    return not weights.numel() or all(bool(torch.isfinite(end)) for end in torch.aminmax(weights))


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
