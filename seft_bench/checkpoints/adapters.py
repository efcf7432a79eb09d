"""LoRA adapters through peft: laid over their bases, saved, merged, and written as one whole model."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seft_bench.checkpoints import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    FACTS,
    PLACE,
    adapter_config,
    base_of,
    check_adapter,
    facts_of,
    fingerprint,
    tokenizer_folder,
)
from seft_bench.errors import InputError
from seft_bench.files import locked, read_json, write_json

TOKENIZER_FILES = ("tokenizer*", "special_tokens*", "added_tokens*", "vocab*", "merges*", "*.jinja", "*.model")


def merge_adapter(model: Any, adapter: Path) -> Any:
    """Add an adapter to the weights of its base, in the type that they have; return the whole model.

    Args:
        model: the base, as transformers loaded it; its weights change.

    Raises:
        InputError: the adapter cannot be loaded, or does not belong over this model.
    """
    with quiet_peft():
        merged = load_adapter(model, adapter).merge_and_unload(safe_merge=True)
    return merged.requires_grad_(True)  # peft froze what it laid the adapter over


def load_adapter(model: Any, adapter: Path) -> Any:
    """Lay an adapter over its base with peft: every tensor of it finds its place, and no place is left empty.

    Raises:
        InputError: see `merge_adapter`.
    """
    from peft import PeftModel, get_peft_model_state_dict

    check_adapter(adapter)
    try:
        with quiet_peft():
            loaded = PeftModel.from_pretrained(model, str(adapter), torch_device=str(model.device))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _not_over(adapter, (str(error).splitlines() or ["?"])[0]) from None
    wanted = set(get_peft_model_state_dict(loaded, save_embedding_layers=False))
    if differing := sorted(set(adapter_tensors(adapter)) ^ wanted):
        raise _not_over(adapter, f"{len(differing)} tensors of it and of the model's differ, {differing[0]} is one")
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


def merged_folder(adapter: Path, out: Path) -> Path:
    """Write the whole model of an adapter over its base, in the base's number format; return `out`.

    Its tokenizer is the adapter's. One that is there already is taken as it is; a killed one leaves nothing.

    Raises:
        InputError: the adapter or its base cannot be loaded, or `out` holds something else.
    """
    from transformers import AutoModelForCausalLM

    check_adapter(adapter)
    base, made_of = base_of(adapter), fingerprint(adapter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_name(f".{out.name}.lock")):
        if out.exists() and any(out.iterdir()):
            if facts_of(out).get("merged_from") == made_of:
                return out
            raise InputError(f"{out} holds something else than {adapter} merged into its base: name another folder")
        model = merge_adapter(
            AutoModelForCausalLM.from_pretrained(str(base), dtype="auto", use_safetensors=True), adapter
        )
        facts = {key: value for key, value in facts_of(adapter).items() if key != "base"} | {"merged_from": made_of}

        def write(folder: Path) -> None:
            model.save_pretrained(str(folder))
            _copy_tokenizer(tokenizer_folder(adapter), folder)
            write_json(folder / FACTS, facts)

        write_folder(out, write)
    return out


def _copy_tokenizer(source: Path, target: Path) -> None:
    for path in sorted({path for pattern in TOKENIZER_FILES for path in source.glob(pattern) if path.is_file()}):
        shutil.copyfile(path, target / path.name)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Replace a folder by what `write` puts into it: complete, or not there.

    A killed one leaves a hidden `.writing-...` folder, which the next one removes.
    """
    temporary = folder.with_name(f".writing-{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
