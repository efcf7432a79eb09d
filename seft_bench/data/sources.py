"""Rows out of what people keep their data in: files, folders, and data sets on the Hugging Face hub.

Plain files of text are read here, so that a message can name the line; Parquet, `save_to_disk` and repositories by the
`datasets` library, which runs no code of theirs.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from seft_bench.config import SourceConfig
from seft_bench.data.hub import HUB_ID, fetch_repository
from seft_bench.errors import InputError
from seft_bench.files import (
    Stamp,
    file_stamp,
    json_of,
    parse_line,
    read_bytes,
    read_once,
    sha256_file,
    sha256_json,
    text_of,
)
from seft_bench.records import Row
from seft_bench.texts import parse_json


class Located(NamedTuple):
    """A row and where it stands ("line 3")."""

    where: str
    row: Row


@dataclass(frozen=True)
class Opened:
    """A source that was found.

    Attributes:
        name: what messages call it.
        rows: read when they are asked for.
        facts: what a manifest says of it: `source`, and `commit` of a hub repository or `sha256`.
    """

    name: str
    rows: Iterable[Located]
    facts: Row


file_hash = read_once(sha256_file)


def open_source(source: SourceConfig) -> Opened:
    """Find a source and say how its rows are read.

    Raises:
        InputError: nothing is there, or something of an unknown kind; reading raises it for a malformed row.
    """
    named = str(source.source)
    path = Path(named).expanduser()
    if path.is_file():
        _refuse(source, named, "file", ("split", "config", "revision"))
        return Opened(named, _file_rows(path), {"source": named, "sha256": file_hash(path)})
    if path.is_dir():
        _refuse(source, named, "folder", ("revision",))
        return Opened(named, _folder_rows(path, source, named), {"source": named, "sha256": folder_hash(path)})
    if not looks_like_hub_id(named):
        raise InputError(missing_message(named))
    folder, commit = fetch_repository(named, source.revision)
    return Opened(named, _folder_rows(folder, source, named), {"source": named, "commit": commit})


def fingerprint(source: SourceConfig) -> str | None:
    """Tell a source from others and from itself after a change; None where nothing is there.

    A hub repository is told by its name and revision: what a branch names today is not looked up.
    """
    named = str(source.source)
    path = Path(named).expanduser()
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        return folder_hash(path)
    return f"hub:{named}@{source.revision or ''}" if looks_like_hub_id(named) else None


def looks_like_hub_id(named: str) -> bool:
    return HUB_ID.fullmatch(named) is not None and not named.startswith(".") and _reader(Path(named)) is None


def missing_message(named: str) -> str:
    """Say that a source is not there, and what one is."""
    return (
        f"data source {named!r}: there is no such file or folder, and it is no hub id (owner/name, or "
        f"owner/name@revision). Files: {', '.join(_READERS)}, gzipped or not; folders: of `save_to_disk`, or a "
        "repository's."
    )


def folder_hash(folder: Path) -> str:
    """Hash the names and contents of all files below a folder."""
    folder = folder.absolute()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder)))
    stamp = tuple((str(path), file_stamp(path)) for path in files)
    return _folder_hash_at(folder, stamp)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@lru_cache(maxsize=16)
def _folder_hash_at(folder: Path, stamp: Stamp) -> str:
    files = [Path(name) for name, _ in stamp]
    return sha256_json([(str(path.relative_to(folder)), sha256_file(path)) for path in files])


def _refuse(source: SourceConfig, named: str, kind: str, keys: Iterable[str]) -> None:
    if wrong := [key for key in keys if getattr(source, key) is not None]:
        raise InputError(f"data source {named!r} is a {kind} here, which has no {', '.join(wrong)}: take that away")


# Files


def _file_rows(path: Path) -> Iterator[Located]:
    reader = _reader(path)
    if reader is None:
        raise InputError(f"{path} has no known ending. Files that can be read: {', '.join(_READERS)}, gzipped or not.")
    return reader(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Located]] | None:
    return _READERS.get(Path(path.name.removesuffix(".gz")).suffix)


def _json_lines(path: Path) -> Iterator[Located]:
    return _parsed_lines(read_bytes(path, "data file"), path)


def _parsed_lines(stored: bytes, path: Path) -> Iterator[Located]:
    for number, line in enumerate(text_of(stored, path, "data file").split("\n"), start=1):
        if line.strip():
            value = parse_line(line, path, number, "data file", mend=False)  # halves of pairs are refused, row by row
            yield Located(f"line {number}", _object(value, path, f"line {number}"))


def _json_array(path: Path) -> Iterator[Located]:
    """An array of objects or of prompts; files named .json often hold JSON Lines instead."""
    stored = read_bytes(path, "data file")
    if not stored.lstrip().startswith(b"["):
        yield from _parsed_lines(stored, path)
        return
    for index, value in enumerate(json_of(stored, path, "data file", mend=False)):
        yield Located(f"index {index}", _object(value, path, f"index {index}"))


def _object(value: Any, path: Path, where: str) -> Row:
    """A row as it is; a text alone is a prompt."""
    if isinstance(value, str):
        return {"prompt": value}
    if not isinstance(value, dict):
        raise InputError(f"{path}, {where}: a JSON object or a text is expected, this is {type(value).__name__}")
    return value


def _text_lines(path: Path) -> Iterator[Located]:
    text = text_of(read_bytes(path, "data file"), path, "data file")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Located(f"line {number}", {"prompt": line})


def _separated(separator: str) -> Callable[[Path], Iterator[Located]]:
    return lambda path: _table_rows(path, separator)


def _table_rows(path: Path, separator: str) -> Iterator[Located]:
    """Rows of a table of texts. Every cell stays text, where a table's guesses would make an answer "42" a number."""
    csv.field_size_limit(sys.maxsize)
    text = text_of(read_bytes(path, "data file"), path, "data file")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names: list[str] = []
    try:
        for cells in reader:
            if not names:
                names = _header(cells, path)
            elif cells:
                yield Located(f"line {reader.line_num}", _table_row(names, cells, path, reader.line_num))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not a row of a table ({error})") from None


def _header(names: list[str], path: Path) -> list[str]:
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"{path}, line 1: the names of the columns must differ and not be empty: {', '.join(names)}")
    return names


def _table_row(names: list[str], cells: list[str], path: Path, line: int) -> Row:
    if len(cells) != len(names):
        raise InputError(
            f"{path}, line {line}: {len(cells)} cells, and {len(names)} columns ({', '.join(names)}). Is a quote or a "
            "separator in a text not quoted?"
        )
    return {name: _cell(cell) for name, cell in zip(names, cells, strict=True)}


_MESSAGES = re.compile(r"\s*\[\s*\{\s*\"(role|content|from|value|answer|rank)\"")


def _cell(cell: str) -> Any:
    """A text; or messages or ranked answers, which a table holds as JSON."""
    if _MESSAGES.match(cell):
        try:
            return parse_json(cell, mend=False)
        except json.JSONDecodeError:
            return cell
    return cell


def _parquet(path: Path) -> Iterator[Located]:
    with _blamed(path):
        rows = _datasets().load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        yield from _numbered(rows)


_READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_array,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
    ".txt": _text_lines,
}


# Folders


def _folder_rows(folder: Path, source: SourceConfig, named: str) -> Iterator[Located]:
    """Rows of a folder: of `save_to_disk`, or of a repository, whose README may name splits and configurations."""
    datasets = _datasets()
    with _blamed(named):
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            _refuse(source, named, "folder of save_to_disk", ("config",))
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(str(folder), name=source.config, streaming=True)
        yield from _numbered(_split(found, source.split, named))


def _split(found: Any, split: str | None, named: str) -> Iterable[Row]:
    if not isinstance(found, Mapping):
        if split is not None:
            raise InputError(f"data source {named!r} has no splits; take `split: {split}` away")
        unsplit: Iterable[Row] = found
        return unsplit
    wanted = split or ("train" if "train" in found else next(iter(found)) if len(found) == 1 else None)
    if wanted not in found:
        asked = f"has no split {wanted!r}" if wanted else "has several splits: name one as `split`"
        raise InputError(f"data source {named!r} {asked}. There are {', '.join(map(str, found))}.")
    rows: Iterable[Row] = found[wanted]
    return rows


def _numbered(rows: Iterable[Row]) -> Iterator[Located]:
    for index, row in enumerate(rows):
        yield Located(f"row {index}", dict(row))


def _datasets() -> Any:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)  # its errors are raised as well
    return datasets


@contextmanager
def _blamed(named: str | Path) -> Iterator[None]:
    """Say of what the library could not read that it could not."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, DatasetsError) as error:
        cause = error.__cause__ or error
        said = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise InputError(f"data source {str(named)!r} cannot be read: {said}") from None
