"""The report's files while they are made: named parts in a new folder that takes the old one's place in one step."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.ownership import Holds, IsOurs, Kind, is_file, listed, put_in_place, remove_listed
from seft_bench.report.site.encode import DELIVERY, encode, to_javascript
from seft_bench.texts import utf8

PART_BYTES = 700_000
"""Goal for one file: a page loads in a moment, also from a slow disk."""
LARGEST_PART_BYTES = 3_000_000
MARKER = "seft-bench report"
"""The name that index.html gives itself: a folder without it is not ours to replace."""


def _static() -> list[Traversable]:
    return sorted(files("seft_bench.report.site").joinpath("static").iterdir(), key=lambda item: item.name)


def _names_itself(folder: Path) -> bool:
    page = folder / "index.html"
    return page.is_file() and MARKER in page.read_text(encoding="utf-8", errors="replace")[:2000]


def _delivers(path: Path) -> bool:
    """Tell a data file of a report from a script of the user's."""
    if not is_file(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(DELIVERY)).decode(errors="replace") == DELIVERY


_DATA: dict[str, IsOurs | Holds] = {r".+\.js": _delivers}
_DATA[r"[^/]+"] = _DATA
REPORT = Kind(
    "report",
    {
        "|".join(
            re.escape(item.name) for item in files("seft_bench.report.site").joinpath("static").iterdir()
        ): is_file,
        "data": _DATA,
    },
    _names_itself,
)


class Parts:
    """Writes data files below a folder and remembers the largest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.largest, self.total = folder, 0, ("", 0), 0

    def write(self, name: str, data: Any) -> None:
        """data/NAME.js"""
        self._save(f"data/{name}.js", to_javascript(name, data))

    def write_rows(self, name: str, rows: Iterable[Any]) -> list[int]:
        """Rows in as many files as they need, data/NAME-0.js and so on; returns the number of the first row of each."""
        starts: list[int] = []
        for first, texts in _filled(encode(row) for row in rows):
            part = f"{name}-{len(starts)}"
            listed = ",\n".join(texts)
            self._save(f"data/{part}.js", f"{DELIVERY}{encode(part)},[{listed}]);\n")
            starts.append(first)
        return starts

    def copy_static(self) -> None:
        """Page, style and scripts, as they are in the package."""
        for source in _static():
            self._save(source.name, source.read_text(encoding="utf-8"))

    def _save(self, path: str, text: str) -> None:
        payload = utf8(text)
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(payload)
        self.count, self.total = self.count + 1, self.total + len(payload)
        self.largest = max(self.largest, (path, len(payload)), key=lambda item: item[1])


def _filled(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Texts gathered until a file is full, each group with the number of its first."""
    group: list[str] = []
    first = size = 0
    for number, text in enumerate(texts):
        if group and size + len(text) > PART_BYTES:
            yield first, group
            group, first, size = [], number, 0
        group.append(text)
        size += len(utf8(text))
    if group:
        yield first, group


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give a new folder beside `out` that takes its place when the block ends well.

    A reader sees the old report or the new one. What of the old folder is not the report's is moved into the new one.

    Raises:
        InputError: `out` is there and is no report of ours, or holds a file of the user's in a place of the report's.
    """
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    try:
        yield new
        new.chmod(0o755)  # mkdtemp's 0700 would hide the report from a team that shares the folder
        _check_places(new, out)
        _swap(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """A report may be written over; anything else may not.

    Raises:
        InputError: `out` is a file, or a folder that holds something else.
    """
    REPORT.check(out)
    if out.is_dir() and any(out.iterdir()) and not REPORT.is_ours(out):
        there = ", ".join(sorted(child.name for child in out.iterdir())[:6])
        raise InputError(
            f"--out {out} holds something that is no report ({there}) and would be replaced. Name another folder."
        )


def _check_places(new: Path, out: Path) -> None:
    """Refuse to write over files that the user keeps in a report's folder under names that the new one needs."""
    ours = set(listed(out, REPORT.holds))
    places = [out / path.relative_to(new) for path in new.rglob("*") if path.is_file()]
    if theirs := [str(place) for place in places if os.path.lexists(place) and place not in ours]:
        raise InputError(
            f"{', '.join(theirs[:3])} is not the report's, and the new report needs its place: move it away, or name "
            "another folder with --out."
        )


def _swap(new: Path, out: Path) -> None:
    old = Path(f"{new}.old")
    if out.exists():
        os.replace(out, old)
    os.replace(new, out)
    if old.exists() and not remove_listed(old, REPORT.holds):
        put_in_place(old, out)
