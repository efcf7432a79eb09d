"""Data sets and base models that training starts from, the tinyworld's or the user's own.

A data set is a JSON Lines file in a folder; docs/data.md says what each holds. The tinyworld's are written from a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seft_bench.checkpoints import fetch_from_hub, fingerprint, is_checkpoint, refuse_aligner
from seft_bench.checkpoints.steps import checkpoints_below, last_checkpoint
from seft_bench.config import TINYWORLD, AnyData, DataConfig, data_row, tinyworld_settings
from seft_bench.console import says_who
from seft_bench.data.resolving import fingerprints, resolve, source_for
from seft_bench.data.sources import file_hash
from seft_bench.data.tinyworld import check_amounts, write_tinyworld_data
from seft_bench.errors import InputError, unknown_name
from seft_bench.files import locked, read_json
from seft_bench.records import Row

SHIPPED_BASES = {TINYWORLD: "base", "tinyworld-no-threads": "base-no-threads"}
"""Name of a base that ships -> its folder in the package; a recipe, tiny-base or tiny-base-no-threads, makes each."""


def open_data(data: AnyData, seed: int, folder: Path, needed: Iterable[str]) -> Path:
    """Find the folder of the data sets that a method needs.

    Args:
        data: "tinyworld" or the same with settings, a folder of the user's, or a source for each role.
        folder: where the tinyworld's data sets are written, one folder a seed, and what sources become.
        needed: names of the data sets that its stages read; others need not be there.

    Raises:
        InputError: a source is missing or malformed.
    """
    needed = list(needed)
    if settings := tinyworld_settings(data):
        return write_tinyworld_data(settings, seed, folder, needed)
    check_data(data, needed)
    return resolve(_sources(data), folder, needed)


def check_data(data: AnyData, needed: Iterable[str]) -> None:
    """Look whether everything that is needed is there, without reading it.

    Raises:
        InputError: the folder, a data set or a source is missing, or the tinyworld has not as much.
    """
    if settings := tinyworld_settings(data):
        check_amounts(settings)
    elif isinstance(data, str):
        _check_folder(Path(data), needed)
    else:
        for name in needed:
            source_for(_sources(data), name)


def _sources(data: AnyData) -> DataConfig:
    """Return data that are not the tinyworld's as a source for each role."""
    if isinstance(data, DataConfig):
        return data
    return DataConfig(folder=str(data))


def _check_folder(own: Path, needed: Iterable[str]) -> None:
    if not own.is_dir():
        raise InputError(
            f"data {str(own)!r} is neither 'tinyworld' nor a folder. docs/data.md says which files such a folder "
            "holds, and how to name other sources."
        )
    missing = [f"{data_set}.jsonl" for data_set in needed if not (own / f"{data_set}.jsonl").is_file()]
    if missing:
        there = ", ".join(sorted(path.name for path in own.iterdir())) or "nothing"
        raise InputError(
            f"data folder {own} lacks {', '.join(missing)}. It holds: {there}. docs/data.md says what each file is."
        )


def data_record(data: AnyData, folder: Path, needed: Iterable[str]) -> Row:
    """Say of each data set that was read where it came from and what it held, for the run's manifest.

    Args:
        folder: what `open_data` found.
    """
    if tinyworld_settings(data):
        source = data_row(data)
        return {name: {"source": source, "sha256": file_hash(folder / f"{name}.jsonl")} for name in needed}
    made = read_json(folder / "manifest.json", "manifest of data sets")
    return {name: made[name] for name in needed}


def content_hashes(base: str, data: AnyData, needed: Iterable[str]) -> dict[str, str]:
    """Hash a base and data that are the user's: what they hold may change under the same path.

    Args:
        needed: names of the data sets that the method reads; others are no part of what it makes.

    Returns:
        "base" and "data/NAME" of each data set; neither for what carries its version in its name (the tinyworld, a hub
        id) or is not there.
    """
    found = {}
    if base not in SHIPPED_BASES and is_checkpoint(Path(base)):
        found["base"] = fingerprint(Path(base))
    return found | {f"data/{name}": digest for name, digest in _data_hashes(data, needed).items()}


def _data_hashes(data: AnyData, needed: Iterable[str]) -> dict[str, str]:
    if tinyworld_settings(data):
        return {}
    if not isinstance(data, str):
        return fingerprints(_sources(data), needed)
    files = {name: Path(data) / f"{name}.jsonl" for name in needed}
    return {name: file_hash(path) for name, path in files.items() if path.is_file()}


def open_base(name: str, what: str = "base") -> Path:
    """Find the folder of a base model: a shipped one of the tinyworld, a folder (an adapter's too), or a hub id.

    A hub id is fetched once, safetensors only; owner/name@revision names a commit, tag or branch.

    Args:
        what: what messages call it.

    Raises:
        InputError: nothing is there under that name.
    """
    if name in SHIPPED_BASES:
        return Path(__file__).parent.parent / "tinyworld" / SHIPPED_BASES[name]
    if is_checkpoint(Path(name)):
        refuse_aligner(Path(name), what)
        return Path(name)
    if Path(name).exists() or name.startswith((".", "/")) or name.count("/") > 1:
        raise InputError(
            f"{what} {name!r} is no checkpoint: it has neither config.json nor adapter_config.json. It is "
            f"{' or '.join(map(repr, SHIPPED_BASES))}, "
            f"a checkpoint folder, {'a run, ' if what in NAMED_MODELS else ''}or a hub id (owner/name, or "
            "owner/name@revision)."
        )
    return fetch_from_hub(name, what)


NAMED_MODELS = {
    "init": ("base", "start"),
    "reviser_init": ("base", "start", "chosen"),
    "draft_policy": ("policy", "base", "start", "chosen"),
}
"""Setting of a method -> what it can say beside a ready model."""


def open_ready_model(init: str, setting: str = "init") -> Path:
    """Find the model that `init` of a method's settings names: a folder (an adapter's too), a run's, or a hub id.

    Args:
        setting: what names it, if not `init`.

    Returns:
        The model's folder; of a run the last checkpoint's.

    Raises:
        InputError: nothing is there under that name, or a folder of no or of several models.
    """
    if "/" not in init and not Path(init).exists() and init not in SHIPPED_BASES:
        known = NAMED_MODELS.get(setting, ())
        raise unknown_name(setting, init, known, "A ready model is named by its folder or its hub id.")
    if found := ready_folder(init):
        refuse_aligner(found, setting)
        return found
    if Path(init).is_dir() and (several := checkpoints_below(Path(init))):
        raise InputError(
            f"{setting} {init!r} holds several models: {', '.join(path.name for path in several[:8])}. Name one of "
            "them."
        )
    return open_base(init, setting)


def ready_folder(init: str) -> Path | None:
    """Find the checkpoint of `init` on this machine: the folder itself, or a run's last one; None of any other name."""
    folder = Path(init)
    if init in SHIPPED_BASES or is_checkpoint(folder):
        return None if init in SHIPPED_BASES else folder
    return last_checkpoint(folder) if folder.is_dir() else None


def open_blank_base(name: str, folder: Path) -> Path:
    """Find where pre-training starts.

    It is the tinyworld's blank model, written into `folder`, or a folder with config.json and tokenizer.
    """
    if name not in SHIPPED_BASES:
        return open_base(name)
    from seft_bench.tinyworld import WORLD_VERSION
    from seft_bench.tinyworld.blank import write_blank_model

    target = folder / f"tinyworld-v{WORLD_VERSION}-blank"
    with locked(folder / ".locks" / target.name, says_who(f"makes {target}")):
        return target if (target / "config.json").exists() else write_blank_model(target)
