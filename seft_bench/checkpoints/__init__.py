"""Model folders: a whole model, or a LoRA adapter over one; which of the two it is, and what its weights are.

    config.json, *.safetensors, tokenizer              a whole model, as transformers writes it
    adapter_config.json, adapter_model.safetensors     an adapter, as peft writes it; the first names its base
    aligner.json                                       a policy and a reviser, which answer together (`aligners`)

An adapter of ours says in checkpoint.json which weights it was trained over: others under the base's name are refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import (
    MODEL_FILES,
    Stamp,
    check_safetensors,
    folder_stamp,
    read_json,
    sha256_file,
    sha256_folder_once,
    sha256_json,
    weight_files,
)
from seft_bench.records import Row

CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
FACTS, ALIGNER = "checkpoint.json", "aligner.json"
PLACE = ("base_model_name_or_path", "revision")
"""Keys of adapter_config.json that say where the base lies, and nothing of what it is."""

FROM_HUB = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is something that can answer: a whole model, an adapter, or an aligner."""
    return (folder / CONFIG).is_file() or is_adapter(folder) or is_aligner(folder)


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def is_aligner(folder: Path) -> bool:
    return (folder / ALIGNER).is_file()


def fingerprint(folder: Path) -> str:
    """Hash a model folder: weights, configuration and tokenizer; of an adapter also its base's weights.

    Where an adapter's base lies is not part of it, so both may be moved. Of an aligner: its models, and how it revises.

    Raises:
        InputError: an adapter whose base is not to be found, or is another one by now.
    """
    if is_aligner(folder):
        from seft_bench.checkpoints.aligners import read_aligner

        return read_aligner(folder).fingerprint
    if not is_adapter(folder):
        return sha256_folder_once(folder)
    files = sorted(path for pattern in MODEL_FILES for path in folder.glob(pattern))
    own = [(path.name, sha256_file(path)) for path in files if path.name not in (ADAPTER_CONFIG, "manifest.json")]
    settings = {key: value for key, value in adapter_config(folder).items() if key not in PLACE}
    return sha256_json([own, settings, weights_hash(base_of(folder))])


def weights_hash(folder: Path) -> str:
    """Hash the weights of a whole model, and nothing else of its folder; read once while its files stay as they are."""
    return _weights_hash_at(folder.absolute(), folder_stamp(folder))


@functools.lru_cache(maxsize=64)
def _weights_hash_at(folder: Path, _stamp: Stamp) -> str:
    return sha256_json([(name, sha256_file(folder / name)) for name in weight_files(folder)])


# Adapters


def adapter_config(adapter: Path) -> Row:
    """Read an adapter's configuration.

    Raises:
        InputError: it cannot be read, or is of another kind than LoRA.
    """
    config = read_json(adapter / ADAPTER_CONFIG, "configuration of an adapter")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise InputError(f"adapter {adapter} is of kind {kind}: only LoRA adapters can be used")
    return config


def check_adapter(adapter: Path) -> None:
    """Refuse an adapter that cannot be loaded safely, before anything large is read.

    Raises:
        InputError: no weights in safetensors, broken ones, or a whole model in the same folder.
    """
    adapter_config(adapter)
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        pickled = ", only adapter_model.bin, which could run code when read" if any(adapter.glob("*.bin")) else ""
        raise InputError(
            f"adapter {adapter} holds no {ADAPTER_WEIGHTS}{pickled}. Save it with peft's save_pretrained, which writes "
            "safetensors."
        )
    if other := sorted(path.name for path in adapter.glob("*.safetensors") if path.name != ADAPTER_WEIGHTS):
        raise InputError(
            f"{adapter} holds an adapter ({ADAPTER_CONFIG}) and weights of a whole model ({', '.join(other[:3])}): "
            "which of the two is meant? Move the adapter into a folder of its own."
        )
    check_safetensors(adapter)


def check_whole(folder: Path, what: str) -> None:
    """Refuse an adapter or an aligner where a whole model is needed, with the command that makes one.

    Args:
        what: what messages call it.
    """
    refuse_aligner(folder, what)
    if is_adapter(folder):
        raise InputError(
            f"{what} {folder} is an adapter, and a whole model is needed: `seft-bench export {folder} --merge --out "
            "FOLDER` writes it"
        )


def refuse_aligner(folder: Path, what: str) -> None:
    """Refuse an aligner where one model is needed.

    Args:
        what: what messages call it.
    """
    if is_aligner(folder):
        raise InputError(
            f"{what} {folder} is an aligner, a policy and a reviser that answer together, and one model is needed: "
            f"name one of the two that its {ALIGNER} names"
        )


def base_of(adapter: Path) -> Path:
    """Find the whole model that an adapter was trained over: the folder or hub id that adapter_config.json names.

    Raises:
        InputError: it is not there, is no whole model, or has other weights than the adapter was trained over.
    """
    config = adapter_config(adapter)
    name = str(config.get(PLACE[0]) or "")
    folder = _find_base(adapter, name, config.get(PLACE[1]))
    recorded = facts_of(adapter).get("base", {}).get("weights_sha256")
    if recorded and recorded != weights_hash(folder):
        raise InputError(
            f"adapter {adapter} was trained over other weights than {name} holds now (their SHA-256 is "
            f"{weights_hash(folder)[:16]}..., not {recorded[:16]}...). Put the old weights back, or write where they "
            f"are as {PLACE[0]} into {adapter / ADAPTER_CONFIG}."
        )
    return folder


def _find_base(adapter: Path, name: str, revision: str | None) -> Path:
    folder = Path(name)
    if name and (folder / CONFIG).is_file() and not is_adapter(folder):
        return folder
    if not name or folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        what = f"is over {name}, and no whole model is there" if name else "names no base"
        raise InputError(
            f"adapter {adapter} {what}. Write where its base is (a checkpoint folder, or a hub id) as {PLACE[0]} into "
            f"{adapter / ADAPTER_CONFIG}."
        )
    return fetch_from_hub(f"{name}@{revision}" if revision else name, f"base of adapter {adapter}")


def facts_of(folder: Path) -> Mapping[str, Any]:
    facts = read_json(folder / FACTS, "facts of a checkpoint") if (folder / FACTS).is_file() else {}
    return facts if isinstance(facts, dict) else {}


def base_record(base: Path) -> Row:
    """Return what an adapter's checkpoint.json says of its base, by which it is recognised."""
    return {"base": {"weights_sha256": weights_hash(base)}}


def base_place(base: Path) -> dict[str, str | None]:
    """Return where a base lies, as adapter_config.json says it: id and commit of the hub, else the whole path.

    >>> base_place(Path("/cache/models--owner--name/snapshots/0123abc"))
    {'base_model_name_or_path': 'owner/name', 'revision': '0123abc'}
    """
    cached = re.search(r"/models--([^/]+?)--([^/]+)/snapshots/([^/]+)/?$", str(base.absolute()))
    if cached:
        return dict(zip(PLACE, (f"{cached[1]}/{cached[2]}", cached[3]), strict=True))
    return dict(zip(PLACE, (str(base.resolve()), None), strict=True))


def fetch_from_hub(name: str, what: str) -> Path:
    """Fetch a model once, safetensors only, and return its folder in the hub's cache.

    Args:
        name: owner/name, or owner/name@revision: a commit, tag or branch.
        what: what messages call it.

    Raises:
        InputError: it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FROM_HUB))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{what} {name!r} is no folder here, and it cannot be fetched from the hub: {first}") from None


def tokenizer_folder(folder: Path) -> Path:
    """Return where a model's tokenizer lies: its own folder, or its base's for an adapter without one."""
    if is_adapter(folder) and not any(folder.glob("tokenizer*")):
        return base_of(folder)
    return folder
