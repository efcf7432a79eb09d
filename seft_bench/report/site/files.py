"""The report's files while they are made: named parts in a new folder that takes the old one's place in one step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.report.site.encode import encode, to_javascript

PART_BYTES = 700_000
"""Goal for one file: a page loads in a moment, also from a slow disk."""
LARGEST_PART_BYTES = 3_000_000
MARKER = "seft-bench report"
"""The name that index.html gives itself: a folder without it is not ours to replace."""


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
            self._save(f"data/{part}.js", f"seftBench.deliver({encode(part)},[{listed}]);\n")
            starts.append(first)
        return starts

    def copy_static(self) -> None:
        """Page, style and scripts, as they are in the package."""
        for source in sorted(files("seft_bench.report.site").joinpath("static").iterdir(), key=lambda item: item.name):
            self._save(source.name, source.read_text(encoding="utf-8"))

    def _save(self, path: str, text: str) -> None:
        payload = text.encode()
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
        size += len(text.encode())
    if group:
        yield first, group


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give a new folder beside `out` that takes its place when the block ends well.

    A reader sees the old report or the new one.

    Raises:
        InputError: `out` is there and is no report of ours.
    """
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    try:
        yield new
        new.chmod(0o755)  # mkdtemp's 0700 would hide the report from a team that shares the folder
        _swap(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """A report may be written over; anything else may not.

    Raises:
        InputError: `out` is a file, or a folder that holds something else.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"--out {out} is a file; a report is a folder. Name another folder.")
    page = out / "index.html"
    if any(out.iterdir()) and not (
        page.is_file() and MARKER in page.read_text(encoding="utf-8", errors="replace")[:2000]
    ):
        there = ", ".join(sorted(child.name for child in out.iterdir())[:6])
        raise InputError(
            f"--out {out} holds something that is no report ({there}) and would be replaced. Name another folder."
        )


def _swap(new: Path, out: Path) -> None:
    old = Path(f"{new}.old")
    if out.exists():
        os.replace(out, old)
    os.replace(new, out)
    shutil.rmtree(old, ignore_errors=True)
