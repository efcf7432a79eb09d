"""LoRA adapters through peft: laid over their bases, and saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seft_bench.checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PLACE, adapter_config, check_adapter
from seft_bench.checkpoints.holds import CHECKPOINT
from seft_bench.checkpoints.weights import check_tensors
from seft_bench.errors import InputError
from seft_bench.files import read_json, write_json
from seft_bench.ownership import Holds, put_in_place, remove_listed


def load_adapter(model: Any, adapter: Path) -> Any:
    """Lay an adapter over its base with peft: every tensor of it finds its place, and no place is left empty.

    Raises:
        InputError: the adapter cannot be loaded, or does not belong over this model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    check_adapter(adapter)
    try:
        with quiet_peft():
            loaded = PeftModel.from_pretrained(model, str(adapter), torch_device=str(model.device))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _not_over(adapter, (str(error).splitlines() or ["?"])[0]) from None
    wanted, found = set(get_peft_model_state_dict(loaded, save_embedding_layers=False)), adapter_tensors(adapter)
    if differing := sorted(set(found) ^ wanted):
        raise _not_over(adapter, f"{len(differing)} tensors of it and of the model's differ, {differing[0]} is one")
    check_tensors(found, f"adapter {adapter}")
    if any(hasattr(layer, "base_layer") for layer in (loaded.get_input_embeddings(), loaded.get_output_embeddings())):
        raise _not_over(adapter, "it changes the embeddings or the output layer, which is not supported")
    return loaded


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep back peft's warnings: what it warns of is an error here, or a word of transformers that it still uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def adapter_tensors(adapter: Path) -> dict[str, Any]:
    """Read an adapter's tensors, by the names that peft gives them."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = load_file(adapter / ADAPTER_WEIGHTS)
    return tensors


def is_adapted(model: Any) -> bool:
    """Return whether an adapter lies over the model."""
    return hasattr(model, "peft_config")


def save_adapter(model: Any, folder: Path, weights: dict[str, Any] | None = None) -> None:
    """Write an adapter as peft does, byte for byte the same each time, without the card that peft adds.

    Args:
        weights: the state dict of a model whose own is in parts; None takes the model's own.
    """
    model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = read_json(folder / ADAPTER_CONFIG, "configuration of an adapter")
    # peft writes the set of layers in an order of its own.
    write_json(folder / ADAPTER_CONFIG, config | {"target_modules": sorted(config["target_modules"])})


def _not_over(adapter: Path, why: str) -> InputError:
    return InputError(f"adapter {adapter} cannot be laid over its base {adapter_config(adapter)[PLACE[0]]}: {why}")


def write_folder(folder: Path, write: Callable[[Path], None], holds: Holds = CHECKPOINT) -> None:
    """Replace a folder by what `write` puts into it: complete, or not there.

    A killed one leaves a hidden `.writing-...` folder, which the next one removes.

    Args:
        holds: what such a folder holds; the user's files in an older one stay.
    """
    temporary = folder.with_name(f".writing-{folder.name}")
    remove_listed(temporary, holds)
    temporary.mkdir(parents=True, exist_ok=True)
    write(temporary)
    remove_listed(folder, holds)
    put_in_place(temporary, folder)
