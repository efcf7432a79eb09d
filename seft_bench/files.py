"""Reading and writing: atomic replace, append of whole lines, locks, hashes.

Files of record are JSON Lines, written by append of whole lines or by atomic replace, so a killed process leaves
a file that can be read: at worst the last line of an appended file is cut, and `read_log` leaves it out.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import functools
import gzip
import hashlib
import json
import os
import platform
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from seft_bench.console import note
from seft_bench.errors import InputError
from seft_bench.records import Row
from seft_bench.texts import has_halves, parse_json, utf8

ValueT = TypeVar("ValueT")

_GZIP_MAGIC = b"\x1f\x8b"
_SHOWN_BYTES = 240
"""Of a file's name, in that of the file that will take its place: it has ten more, and names have 255."""


def write_atomic(path: Path, data: str | bytes) -> None:
    """Replace `path` in one step: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = utf8(data) if isinstance(data, str) else data
    shown = path.name.encode(errors="replace")[:_SHOWN_BYTES].decode(errors="ignore")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{shown}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would hide results from a team that shares the folder
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: Path, value: object) -> None:
    """Write pretty JSON with sorted keys, so that equal content gives equal bytes."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write all rows by atomic replace."""
    write_atomic(path, "".join(json_line(row) for row in rows))


def json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append whole lines in one write each call, first cutting off a half line that a killed process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = utf8("".join(json_line(row) for row in rows))
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _drop_half_line(file)
        file.write(payload)
        file.flush()


def _drop_half_line(file: Any) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    keep = file.read().rfind(b"\n") + 1
    file.truncate(keep)
    file.seek(0, os.SEEK_END)


def read_text(path: Path, what: str = "file") -> str:
    """Read a UTF-8 file, gzipped or not, with or without a byte order mark, line ends as newlines.

    Raises:
        InputError: a missing or unreadable file, named with `what` it should be.
    """
    return text_of(read_bytes(path, what), path, what)


def read_bytes(path: Path, what: str = "file") -> bytes:
    """Content of a UTF-8 file, gzipped or not, without its byte order mark; `text_of` and `json_of` say what it holds.

    Raises:
        InputError: a missing or unreadable file, named with `what` it should be.
    """
    try:
        _check_regular(path, what)
        stored = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{what} not found: {path}{_neighbours(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{what} expected, but this is a folder: {path}") from None
    except PermissionError:
        raise InputError(f"{what} cannot be read, permission denied: {path}") from None
    except (OSError, ValueError) as error:  # a name of 300 bytes, links in a circle, a name with NUL
        raise InputError(f"{what} cannot be read: {path} ({getattr(error, 'strerror', None) or error})") from None
    try:
        return _unzipped(path, stored).removeprefix(codecs.BOM_UTF8)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{what} is not gzipped UTF-8 text: {path} ({error})") from None


def _check_regular(path: Path, what: str) -> None:
    """Refuse what is no file on a disk: a pipe may never come to an end, and /dev/zero has none."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(f"{what} expected, but this is a pipe or a device: {path}. Write it to a file first.")


def text_of(stored: bytes, path: Path, what: str = "file") -> str:
    """Text of what `read_bytes` gave, line ends as newlines; InputError where it is not UTF-8."""
    try:
        text = stored.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text: {path} (byte {error.start})") from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if b"\r" in stored else text


def json_of(stored: bytes, path: Path, what: str = "JSON file", mend: bool = True) -> Any:
    """Value of what `read_bytes` gave; InputError where it is not UTF-8 or not JSON (`texts.parse_json`)."""
    text = text_of(stored, path, what)
    try:
        value = parse_json(text, mend)
    except json.JSONDecodeError as error:
        raise InputError(f"{what} is not valid JSON: {path}, line {error.lineno}: {error.msg}") from None
    return mended(value, text, path) if mend else value


def mended(value: ValueT, text: str, path: Path) -> ValueT:
    """Return what was read of a JSON text, and say once a file if halves of surrogate pairs were replaced in it."""
    if has_halves(text):
        _say_replaced(path)
    return value


@functools.cache
def _say_replaced(path: Path) -> None:
    note(f"{path} holds halves of surrogate pairs, which are no text: each is read as U+FFFD")


def _unzipped(path: Path, stored: bytes) -> bytes:
    """Told by its first bytes too: a download may have lost its ending."""
    return gzip.decompress(stored) if path.suffix == ".gz" or stored.startswith(_GZIP_MAGIC) else stored


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (the folder {path.parent} does not exist either)"
    names = sorted(child.name for child in path.parent.iterdir() if not child.name.startswith("."))
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f". In {path.parent}: {shown or 'nothing'}"


def read_json(path: Path, what: str = "JSON file") -> Any:
    return json_of(read_bytes(path, what), path, what)


def read_object(path: Path, what: str, required: Iterable[str] = ()) -> Row:
    """Read a file that holds one JSON object.

    Raises:
        InputError: it holds something else, or lacks a `required` key.
    """
    found = read_json(path, what)
    if not isinstance(found, dict):
        raise InputError(f"{what} {path}: a JSON object is expected, this is {type(found).__name__}")
    if missing := [key for key in required if key not in found]:
        raise InputError(f"{what} {path}: key {', '.join(missing)} is missing")
    return found


def read_jsonl(
    path: Path, what: str = "JSON Lines file", required: Iterable[str] = (), allow_empty: bool = False
) -> list[Row]:
    """Read every row, or name the first bad line.

    Raises:
        InputError: the file is missing or empty, a line is not a JSON object, or it lacks a `required` key.
    """
    rows: list[Row] = []
    needed = tuple(required)
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):
        if line.strip():
            rows.append(_parse_row(line, path, number, needed, what))
    if not rows and not allow_empty:
        raise InputError(f"{what} has no rows: {path}")
    return rows


def parse_line(line: str, path: Path, number: int, what: str, mend: bool = True) -> Any:
    """Return the JSON value of one line of a file.

    Args:
        number: of the line, from 1.
        mend: as of `texts.parse_json`.

    Raises:
        InputError: it is none, with file, line and what it begins with.
    """
    try:
        value = parse_json(line, mend)
    except json.JSONDecodeError as error:
        raise InputError(f"{what} {path}, line {number}: not valid JSON ({error.msg}): {line[:80]!r}") from None
    return mended(value, line, path) if mend else value


def _parse_row(line: str, path: Path, number: int, required: tuple[str, ...], what: str) -> Row:
    row = parse_line(line, path, number, what)
    if not isinstance(row, dict):
        raise InputError(f"{what} {path}, line {number}: a JSON object is expected, this is {type(row).__name__}")
    missing = [key for key in required if key not in row]
    if missing:
        raise InputError(
            f"{what} {path}, line {number}: key {', '.join(missing)} is missing; the row has "
            f"{', '.join(sorted(row)) or 'no keys'}"
        )
    return row


def read_log(path: Path) -> list[Row]:
    """Rows of a file that we append to; absent means none yet, and a last line cut by a kill is left out."""
    return read_log_as(path, lambda row: row)


def read_log_as(path: Path, make: Callable[[Row], ValueT]) -> list[ValueT]:
    """As `read_log`, with what `make` makes of each row.

    Raises:
        InputError: a line is no JSON object, or `make` cannot make anything of it, with the line.
    """
    if not os.path.exists(path):  # noqa: PTH110 - whatever its name
        return []
    lines = read_bytes(path, "log").decode(errors="replace").split("\n")
    complete = lines[:-1]  # what follows the last newline was never finished
    return [
        _made(make, _parse_row(line, path, number, (), "log"), path, number)
        for number, line in enumerate(complete, start=1)
        if line.strip()
    ]


def _made(make: Callable[[Row], ValueT], row: Row, path: Path, number: int) -> ValueT:
    try:
        return make(row)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        said = f"key {error} is missing" if isinstance(error, KeyError) else error
        raise InputError(
            f"log {path}, line {number}: not a row of ours ({said}). Take it out; what was paid for is in the store."
        ) from None


def read_once(read: Callable[[Path], ValueT]) -> Callable[[Path], ValueT]:
    """A reader that reads a file again only when its size or time has changed.

    What it returns is shared: leave it as it is.
    """

    @functools.lru_cache(maxsize=16)
    def at_time(path: Path, _stamp: tuple[int, ...]) -> ValueT:
        return read(path)

    @functools.wraps(read)
    def reader(path: Path) -> ValueT:
        try:
            found = file_stamp(path)
        except OSError:
            return read(path)  # it says in words what is wrong
        return at_time(path.absolute(), found)

    return reader


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """Hash of a JSON value, independent of key order and of white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(utf8(text)).hexdigest()


MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model")
"""Weights, configuration and tokenizer of a model folder."""


def sha256_folder(folder: Path, patterns: Iterable[str] = MODEL_FILES) -> str:
    """Fingerprint of a checkpoint folder: names and contents of its weights, configuration and tokenizer."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)} - {folder / "manifest.json"})
    return sha256_json([(path.name, sha256_file(path)) for path in files])


Stamp = tuple[tuple[str, tuple[int, ...]], ...]


def file_stamp(path: Path) -> tuple[int, ...]:
    """What tells whether a file is still the one that was read: also where a clock went back, or its time was set."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def folder_stamp(folder: Path) -> Stamp:
    """Name and stamp of each file of a folder: while they stay, so do hashes of what it holds."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return tuple((path.name, file_stamp(path)) for path in files)


def sha256_folder_once(folder: Path) -> str:
    """As `sha256_folder`; this process reads the folder again only when a file in it has changed."""
    return _sha256_folder_at(folder.absolute(), folder_stamp(folder))


@functools.lru_cache(maxsize=64)
def _sha256_folder_at(folder: Path, _stamp: Stamp) -> str:
    return sha256_folder(folder)


def check_safetensors(folder: Path) -> None:
    """Refuse weights that were cut off, are none, or lie in files that are not there, by their headers alone.

    A header is 8 bytes of its length, then JSON with every tensor's place.

    Raises:
        InputError: which file, and what to do.
    """
    weight_files(folder)
    for path in sorted(folder.glob("*.safetensors")):
        if wrong := _wrong_with_safetensors(path):
            raise InputError(
                f"{path} is broken: {wrong}. Copy, download or save it again (`save_pretrained` writes safetensors)."
            )


WEIGHTS_INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold a model's weights: those of its index, else the one file, else all there are.

    Raises:
        InputError: the index is none, or names a file that is not there.
    """
    index, single = folder / WEIGHTS_INDEX, folder / "model.safetensors"
    if not index.is_file():
        return [single.name] if single.is_file() else sorted(path.name for path in folder.glob("*.safetensors"))
    found = read_json(index, "index of a model's weights")
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{index} is no index of weights: it has no `weight_map` of tensors to files")
    names = sorted(set(places.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise InputError(
            f"{folder} lacks {len(missing)} of the {len(names)} files of weights that its index names "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}): copy or download them too."
        )
    return names


def _wrong_with_safetensors(path: Path) -> str:
    """Say why the file cannot be read as safetensors; "" where its header and size agree."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or header_size > size - 8:
            return f"it has {size:,} bytes, and not even a whole header (cut off, or a pointer of git-lfs in its place)"
        header = file.read(header_size)
    try:
        ends = [int(tensor["data_offsets"][1]) for name, tensor in json.loads(header).items() if name != "__metadata__"]
    except (ValueError, TypeError, LookupError, AttributeError):
        return "its header is no header of safetensors"
    wanted = 8 + header_size + max(ends, default=0)
    return "" if size == wanted else f"it has {size:,} bytes, and its header says {wanted:,}"


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[str], None] = lambda holder: None) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made when absent); the system frees it when the process dies.

    Args:
        on_wait: called once where another process holds the lock, before waiting for it, with who that is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if holder := _taken(file):
            on_wait(holder)
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        yield


@contextlib.contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock like `locked`, or refuse at once where another process has it.

    Raises:
        InputError: `refusal`, with what the lock's file says of its holder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        if holder := _taken(file):
            raise InputError(f"{refusal} ({holder})")
        _sign(file)
        yield


def _taken(file: IO[bytes]) -> str | None:
    """Take a lock where it is free; else return who has it, as its file says."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return file.read(200).decode(errors="replace").strip() or "unknown process"
    return None


def _sign(file: IO[bytes]) -> None:
    """Write into a lock's file who holds it: of use to who waits, and not worth failing for on a full disk."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with contextlib.suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}, since {since}".encode())
