"""`seft-bench data fetch`: download the official files from their public origins into the user's data folder.

A file takes its name only after it was found to be the published one; until then it is `.NAME.part` beside it, from
which a later download goes on. Only files that are absent are fetched: a file that differs is the user's own, and
stays.
"""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seft_bench.console import Progress, says_who
from seft_bench.data.official import OFFICIAL_FILES, data_folders, difference, file_status
from seft_bench.errors import InputError, unknown_name
from seft_bench.files import locked, sha256_file

TIMEOUT_SECONDS = 30.0  # without a byte
TRIES = 4  # for each file, the first one included
MOST_BYTES = 1 << 26  # the largest official file has 2 MB: more is somebody's page, not the file
BLOCK_BYTES = 1 << 16

_ADDRESSES = (
    (
        re.compile(r"data set (\S+) on the Hugging Face hub, file (\S+)"),
        "https://huggingface.co/datasets/{}/resolve/main/{}",
    ),
    (re.compile(r"repository (\S+), file (\S+)"), "https://raw.githubusercontent.com/{}/main/{}"),
    (
        re.compile(r"repository (\S+) at commit ([0-9a-f]{40}), file (\S+)"),
        "https://raw.githubusercontent.com/{}/{}/{}",
    ),
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome for one file: fetched, there already ("present"), or the reason why not ("failed")."""

    name: str
    state: Literal["fetched", "present", "failed"]
    path: str
    message: str = ""


class _BrokenOffError(Exception):
    """The transfer may succeed when asked again: a cut connection, a time-out, a server that is busy."""


class _UnreachableError(InputError):
    """No connection to the host: its other files need not be tried."""


def fetch(
    names: Sequence[str], base_url: str | None, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> list[Fetched]:
    """Fetch the official files that are missing; a file that fails does not keep the others from being fetched.

    Args:
        names: official files or folders of them ("mt_bench"); empty means all.
        base_url: a mirror that holds the files under their names here; None means the public origins.
        progress: told (name, bytes so far, bytes in all).

    Raises:
        InputError: unknown name, an address that is none, no right to write, or HF_HUB_OFFLINE is set and a file would
            be fetched.
    """
    wanted = _chosen(names)
    if base_url is not None:
        _check_base(base_url)
    if all(file_status(name).state == "ok" for name in wanted):
        return [_present(name) for name in wanted]
    folder = data_folders()[0]
    with _files_can_be_written(folder), locked(folder / ".fetch.lock", says_who(f"fetches files into {folder}")):
        return _fetch_all(wanted, folder, base_url, progress, sleep)


def address(name: str, base_url: str | None = None) -> str:
    """Return the address of an official file: the raw file at its origin, or under its name at a mirror."""
    if base_url is not None:
        return f"{base_url.rstrip('/')}/{urllib.parse.quote(name)}"
    found = [
        template.format(*match.groups())
        for pattern, template in _ADDRESSES
        if (match := pattern.fullmatch(OFFICIAL_FILES[name].origin))
    ]
    return found[0]


def _check_base(base_url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        good = good and base_url.isprintable() and " " not in base_url
    except ValueError:  # of the port
        good = False
    if not good:
        raise InputError(
            "the base address must be http:// or https:// with a host, and a port that is a number where there is one: "
            f"{base_url!r}"
        )


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in OFFICIAL_FILES and not _in_folder(name):
            raise unknown_name("official file", name, OFFICIAL_FILES)
    chosen = {official for name in names for official in [name, *_in_folder(name)]}
    return [official for official in OFFICIAL_FILES if official in chosen or not names]


def _in_folder(name: str) -> list[str]:
    return [official for official in OFFICIAL_FILES if official.startswith(f"{name.rstrip('/')}/")]


def _present(name: str) -> Fetched:
    return Fetched(name, "present", file_status(name).path)


@contextmanager
def _files_can_be_written(folder: Path) -> Iterator[None]:
    """Blame the folder for an OSError: faults of the network are reported where they happen.

    What is left is a folder without rights, or a full disk.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the data folder {folder} cannot be written ({error.strerror or error}). Set SEFT_BENCH_DATA_DIR to one "
            "that can."
        ) from None


def _fetch_all(
    names: Sequence[str], folder: Path, base_url: str | None, progress: Progress, sleep: Callable[[float], None]
) -> list[Fetched]:
    results: list[Fetched] = []
    unreachable: dict[str, str] = {}
    for name in names:
        host = urllib.parse.urlsplit(address(name, base_url)).netloc
        try:
            if host in unreachable and file_status(name).state != "ok":
                raise _UnreachableError(f"{name} was not tried: {unreachable[host]}")
            results.append(_fetch_one(name, folder, base_url, progress, sleep))
        except InputError as error:
            if isinstance(error, _UnreachableError):
                unreachable.setdefault(host, f"{host} cannot be reached")
            results.append(Fetched(name, "failed", "", str(error)))
    return results


def _fetch_one(
    name: str, folder: Path, base_url: str | None, progress: Progress, sleep: Callable[[float], None]
) -> Fetched:
    path, url = folder / name, address(name, base_url)
    if file_status(name).state == "ok":
        return _present(name)
    _check_may_fetch(name, path, url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    resumed = part.exists()
    _download(name, url, part, progress, sleep)
    if resumed and _wrong_content(name, part):
        part.unlink()  # its beginning may come from elsewhere: only a whole download tells
        _download(name, url, part, progress, sleep)
    if wrong := _wrong_content(name, part):
        part.unlink()
        raise InputError(f"what {url} sent was refused, and nothing of it kept: {wrong}")
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    return Fetched(name, "fetched", str(path))


def _check_may_fetch(name: str, path: Path, url: str) -> None:
    if path.exists():
        raise InputError(
            f"{path} is there and is not the published file; it was left as it is. Move it away and run `seft-bench "
            f"data fetch {name}` again"
        )
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise InputError(
            f"{name} is missing and was not fetched, because HF_HUB_OFFLINE is set. Unset it, or put the file of {url} "
            f"at {path}"
        )


def _wrong_content(name: str, part: Path) -> str:
    try:
        return difference(name, part, sha256_file(part))
    except InputError as error:
        return str(error).replace(str(part), name)


def _download(name: str, url: str, part: Path, progress: Progress, sleep: Callable[[float], None]) -> None:
    """Bring `part` to its full length, going on where it ends, in a few tries."""
    for number in range(1, TRIES + 1):
        try:
            return _transfer(name, url, part, progress)
        except _BrokenOffError as error:
            if number == TRIES:
                kept = part.stat().st_size if part.exists() else 0
                raise InputError(
                    f"{name}: {url} broke off {TRIES} times ({error}); {kept} bytes are kept, and the same command "
                    "goes on from there"
                ) from None
            sleep(2.0 ** (number - 1))
    return None


def _transfer(name: str, url: str, part: Path, progress: Progress) -> None:
    """Send one request, for the rest of the file if a part is there; a server that sends all of it starts anew.

    Raises:
        _BrokenOffError: worth another try. InputError: not.
    """
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "seft-bench", **({"Range": f"bytes={start}-"} if start else {})}
    with _open(urllib.request.Request(url, headers=headers), part) as response:
        goes_on = response.status == 206
        if goes_on and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server sent another part of the file than asked for")
        done = start if goes_on else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if str(length).isdecimal() else None
        with open(part, "ab" if goes_on else "wb") as file:
            for block in _blocks(response):
                file.write(block)
                done += len(block)
                if done > MOST_BYTES:
                    part.unlink()
                    raise InputError(
                        f"{url} sends more than {MOST_BYTES} bytes, which no official file has; nothing of it was kept"
                    )
                if total is not None and done < total:
                    progress(name, done, total)
    if total is not None and done < total:
        raise _BrokenOffError(f"the connection was cut after {done} of {total} bytes")
    progress(name, done, done)


def _open(request: urllib.request.Request, part: Path) -> Any:
    url = request.full_url
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is not a beginning of the file: start anew
            part.unlink(missing_ok=True)
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _BrokenOffError(f"status {error.code}") from None
        raise InputError(
            f"{url} cannot be fetched: status {error.code} {error.reason}. If a mirror has it: `--base-url`"
        ) from None
    except urllib.error.URLError as error:
        raise _UnreachableError(_unreachable(url, error.reason)) from None
    except (OSError, http.client.HTTPException) as error:  # connected, but the answer did not come
        raise _BrokenOffError(str(error) or type(error).__name__) from None


def _unreachable(url: str, reason: object) -> str:
    folders = " or ".join(map(str, data_folders()))
    return (
        f"{url} cannot be reached ({reason}). Is there a network, or a proxy to set? `--base-url` names a mirror; "
        f"files that you put into {folders} need none"
    )


def _blocks(response: Any) -> Iterator[bytes]:
    try:
        while block := response.read(BLOCK_BYTES):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from None
