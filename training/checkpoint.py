"""Model folders and training state on disk: loaded with checks, written under a temporary name and renamed.

A killed save leaves a hidden `.writing-...` folder, which never looks like a checkpoint and is removed by the next
save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seft_bench.checkpoints import base_of, is_adapter
from seft_bench.checkpoints.adapters import is_adapted, save_adapter, write_folder
from seft_bench.checkpoints.classifiers import (
    as_reward_model,
    is_reward_model,
    load_base,
    load_reward_model,
    with_exact_head,
)
from seft_bench.checkpoints.holds import STATE
from seft_bench.checkpoints.merging import format_name, merge_adapter
from seft_bench.checkpoints.weights import first_line, load_whole
from seft_bench.checkpoints.weights import load_config as read_config
from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.files import check_safetensors, read_json, write_json
from seft_bench.ownership import remove_listed

WEIGHTS = "*.safetensors"
STATE_FILE_BYTES = 1 << 32
"""Of a file of a run's state; a whole one is in memory while it is written."""
LOADED_WITH = ("is_local", "local_files_only")
"""Keys that transformers adds to tokenizer_config.json: where a tokenizer came from, and whether the hub was off."""


def pick_device(name: str) -> torch.device:
    """ "auto" is the GPU where there is one, else the CPU; any other name is torch's own."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}: use auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: {name} is not on this machine, which has {torch.cuda.device_count()} GPUs: use auto")
    return device


def has_weights(folder: Path) -> bool:
    return any(folder.glob(WEIGHTS))


def check_weights(folder: Path) -> None:
    """Refuse a folder that holds no model, or a model without safetensors, before anything large is read.

    Raises:
        InputError: what is missing.
    """
    _check_folder(folder)
    if not has_weights(folder):
        raise InputError(
            f"{folder} holds no {WEIGHTS}{_other_weights(folder)}. Save the model with save_pretrained, which writes "
            "safetensors. Only the method `pretrain` starts from nothing."
        )
    check_safetensors(folder)


def load_model(folder: Path, dtype: torch.dtype = torch.float32, parts: Any | None = None) -> Any:
    """Load the causal language model of a checkpoint folder, on the CPU; an adapter is merged into its base.

    Args:
        parts: transformers' plan by which several processes hold a part each, on their devices; no adapter has one.

    Raises:
        InputError: no such folder, no safetensors weights, or weights that are not all of this model.
    """
    from transformers import AutoModelForCausalLM

    if is_adapter(folder):
        model, kept = merge_adapter(load_model(base_of(folder), dtype), folder)
        if kept.loses:
            note(f"{folder} is loaded merged in {format_name(dtype)}, which keeps {kept}; `precision: mixed` keeps all")
        return model
    check_weights(folder)
    options = {"dtype": dtype, "local_files_only": True, **({"distributed_config": parts} if parts else {})}
    with _quiet_transformers():
        return load_whole(AutoModelForCausalLM, folder, "causal language model", **options)


def load_classifier(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load a reward model, on the CPU; of a causal language model's folder, one whose rewards are all 0.

    Raises:
        InputError: as of `load_model`, or there is no reward model of its architecture.
    """
    if not is_reward_model(folder):
        return as_reward_model(load_model(folder, dtype))
    options = {"dtype": dtype, "local_files_only": True}
    with _quiet_transformers():
        if is_adapter(folder):
            return merge_adapter(load_base(folder, **options), folder)[0].to(dtype)
        return with_exact_head(load_reward_model(folder, **options))


def load_or_initialise(folder: Path, seed: int, dtype: torch.dtype = torch.float32, *, fresh: bool = False) -> Any:
    """Load the folder's model.

    Args:
        fresh: a folder with config.json and no weights gives a model initialised from `seed`; else it is refused.

    Raises:
        InputError: as of `load_model`.
    """
    from transformers import AutoModelForCausalLM

    if not fresh or is_adapter(folder) or has_weights(folder) or _other_weights(folder):
        return load_model(folder, dtype)
    config = load_config(folder)
    torch.manual_seed(seed)
    return _loaded(lambda: AutoModelForCausalLM.from_config(config, dtype=dtype), folder)


def load_config(folder: Path) -> Any:
    """Load the config.json of a whole model's folder.

    Raises:
        InputError: there is none, or it is of no model that is known.
    """
    _check_folder(folder)
    return read_config(folder)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"model folder not found: {folder}. A checkpoint is a folder with config.json, *.safetensors and a "
            "tokenizer."
        )
    if not (folder / "config.json").is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
        raise InputError(
            f"model folder without config.json: {folder} (it holds {names or 'nothing'}). Give the folder of one "
            "checkpoint."
        )


def _other_weights(folder: Path) -> str:
    """Names of weights in formats that can run code when they are read, which we refuse."""
    names = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    return f", only {', '.join(names)}, which could run code when read" if names else ""


def _loaded(load: Callable[[], Any], folder: Path) -> Any:
    try:
        return load()
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever transformers makes of a configuration that is not ours
        raise InputError(f"no causal language model can be made of {folder}: {first_line(error)}") from None


class _quiet_transformers:
    """No progress bars of transformers' own for the shards of small files."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.was_enabled = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        if self.was_enabled:
            logging.enable_progress_bar()


def save_checkpoint(
    folder: Path, model: Any, tokenizer: Any, facts: Mapping[str, Any], weights: dict[str, Tensor] | None = None
) -> None:
    """Write a model folder (safetensors, config, tokenizer, chat template) with `facts` as checkpoint.json.

    A model with an adapter over it (`adapters.attach`) is written as a folder of peft's, without its base.

    Args:
        weights: the whole state dict of a model that is sharded; None takes the model's own.
    """

    def write(target: Path) -> None:
        with _quiet_transformers():
            if is_adapted(model):
                save_adapter(model, target, weights)
            else:
                model.save_pretrained(str(target), state_dict=weights)
        _save_tokenizer(tokenizer, target)
        write_json(target / "checkpoint.json", facts)

    write_folder(folder, write)


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer, without the options that it happened to be loaded with: equal models are equal files."""
    tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    settings = read_json(path, "settings of a tokenizer")
    write_json(path, {key: value for key, value in settings.items() if key not in LOADED_WITH})


def save_state(folder: Path, tensors: Iterable[tuple[str, Tensor]], facts: Mapping[str, Any]) -> None:
    """Write the state of a run at one step as folder/step-NNNNNN, then remove the older ones.

    Args:
        tensors: whole ones by name, which may be made one after the other: no more than a file of them is in memory.
    """
    from safetensors.torch import save_file

    def write(target: Path) -> None:
        for number, part in enumerate(_parts(tensors)):
            save_file(part, target / f"tensors-{number:05d}.safetensors")
        write_json(target / "state.json", facts)

    current = folder / step_name(facts["step"])
    write_folder(current, write, STATE)
    for older in set(folder.glob("step-*")) - {current}:
        remove_listed(older, STATE)


def _parts(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Gather tensors, on the CPU, into files of about `STATE_FILE_BYTES`."""
    part: dict[str, Tensor] = {}
    for name, tensor in tensors:
        part[name] = tensor.detach().contiguous().cpu()
        if sum(kept.nbytes for kept in part.values()) >= STATE_FILE_BYTES:
            yield part
            part = {}
    yield part


class SavedTensors(Mapping[str, Tensor]):
    """Tensors of safetensors files by name, read from disk when they are asked for, and only where they are used."""

    def __init__(self, files: Sequence[Path]) -> None:
        from safetensors import safe_open

        opened: list[Any] = [safe_open(file, "pt") for file in files]
        self._files: dict[str, Any] = {name: file for file in opened for name in file.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def load_state(folder: Path) -> tuple[SavedTensors, dict[str, Any]] | None:
    """(tensors, facts) of the newest state, None where there is none."""
    from safetensors import SafetensorError

    saved = sorted(path.parent for path in folder.glob("step-*/state.json"))
    if not saved:
        return None
    try:
        files = sorted(saved[-1].glob(WEIGHTS))
        return SavedTensors(files), read_json(saved[-1] / "state.json", "training state")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"training state {saved[-1]} cannot be read ({error}). Remove {folder} to start this run again."
        ) from None


def step_name(step: int) -> str:
    return f"step-{step:06d}"
