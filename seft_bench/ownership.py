"""Whose a folder is, and what in it may be removed or written over: one rule for every command.

A folder is ours by a mark that we wrote into it (`.seft-bench-run`); one that was made before there were marks, by the
records that only we write. Of a folder that is ours, only what stands on the list of its kind is ever removed, name by
name: everything else in it is the user's, and stays. In a folder that is not ours, nothing on the list is written over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from seft_bench.errors import InputError
from seft_bench.files import write_atomic

IsOurs = Callable[[Path], bool]
Holds = Mapping[str, "IsOurs | Holds"]
"""Pattern of a name -> what a folder of that name holds, or how one of our files is told from another of that name."""

WORDS = "seft-bench made this folder. It removes its own files in here, and leaves whatever else there is.\n"
_BEING_WRITTEN = r"\.(.+)\.[a-z0-9_]{8}"
"""Names of files that `files.write_atomic` has not finished."""


def is_file(path: Path) -> bool:
    """A file itself: a link is whoever's it points to."""
    return path.is_file() and not path.is_symlink()


def saved_in_steps(holds: Holds) -> Holds:
    """List what a folder of step-NNNNNN folders holds, those that a killed process left half written too."""
    return {r"step-\d{6,}": holds, r"\.writing-step-\d{6,}": holds, r"\.step-\d{6,}\.partial": holds}


def listed(folder: Path, holds: Holds) -> Iterator[Path]:
    """Find the files below a folder that are on a list; folders behind links are not looked into."""
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        for pattern, inside in holds.items():
            if not re.fullmatch(pattern, _finished_name(child.name, inside)):
                continue
            if isinstance(inside, Mapping):
                yield from () if child.is_symlink() else listed(child, inside)
                break
            if inside(child):
                yield child
                break


def _finished_name(name: str, inside: IsOurs | Holds) -> str:
    begun = None if isinstance(inside, Mapping) else re.fullmatch(_BEING_WRITTEN, name)
    return begun[1] if begun else name


def put_in_place(made: Path, folder: Path) -> None:
    """Move what was made beside a folder to its place; where that still holds the user's files, in between them.

    What is on the list of a folder is removed before (`remove_listed`), so a name that is taken is the user's.
    """
    if not folder.exists():
        made.rename(folder)
        return
    for child in list(made.iterdir()):
        if child.is_dir() and not child.is_symlink():
            put_in_place(child, folder / child.name)
        elif os.path.lexists(folder / child.name):
            child.unlink()
        else:
            child.rename(folder / child.name)
    if made.exists():
        made.rmdir()


def remove_listed(folder: Path, holds: Holds, but: Collection[str] = ()) -> bool:
    """Remove what is on a list, and the folders that this empties; return whether nothing of the folder is left.

    Args:
        but: names of files right in it that stay all the same.
    """
    kept = {folder / name for name in but}
    for path in list(listed(folder, holds)):
        if path not in kept:
            path.unlink(missing_ok=True)
    _remove_empty(folder, holds)
    return not folder.exists()


def _remove_empty(folder: Path, holds: Holds) -> None:
    if not folder.is_dir() or folder.is_symlink():
        return
    for child in list(folder.iterdir()):
        for pattern, inside in holds.items():
            if isinstance(inside, Mapping) and re.fullmatch(pattern, child.name):
                _remove_empty(child, inside)
                break
    if not any(folder.iterdir()):
        folder.rmdir()


@dataclass(frozen=True)
class Kind:
    """A kind of folder that we make.

    Attributes:
        name: of the mark, and in messages ("run").
        holds: all that we ever write into one.
        is_recorded: tells a folder without a mark that is ours by what it holds, as older code left it.
    """

    name: str
    holds: Holds
    is_recorded: IsOurs

    def mark_of(self, folder: Path) -> Path:
        """Return the mark of a folder of this kind."""
        return folder / f".seft-bench-{self.name}"

    def is_ours(self, folder: Path) -> bool:
        """Return whether we made a folder, or took it as ours while it held nothing of that name."""
        return self.mark_of(folder).is_file() or (folder.is_dir() and self.is_recorded(folder))

    def check(self, folder: Path, option: str = "--out") -> None:
        """Refuse a folder that is not ours and holds what we would write over. Nothing is written.

        Raises:
            InputError: which folder, what it holds, and what to do.
        """
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{option} {folder} is a file; a {self.name} is a folder. Name another folder.")
        if self.is_ours(folder):
            return
        theirs = [str(path.relative_to(folder)) for path in listed(folder, self.holds)]
        if theirs and not self.is_ours(folder):  # another command may have begun meanwhile
            more = f" and {len(theirs) - 5} more" if len(theirs) > 5 else ""
            raise InputError(
                f"{option} {folder} is no {self.name} of seft-bench, and holds files that one would write over: "
                f"{', '.join(theirs[:5])}{more}. Name another folder."
            )

    def mark(self, folder: Path) -> None:
        """Take a folder as ours."""
        if not self.mark_of(folder).is_file():
            write_atomic(self.mark_of(folder), WORDS)

    def remove(self, folder: Path, but: Collection[str] = ()) -> bool:
        """Remove all of ours in a folder that is ours, the mark last; return whether nothing of the folder is left.

        Args:
            but: names of files in it that stay, as a lock that is held.
        """
        if not self.is_ours(folder):
            return not folder.exists()
        self.mark(folder)  # the records by which an older folder is known may go first
        remove_listed(folder, self.holds, but)
        if not but:
            self.mark_of(folder).unlink(missing_ok=True)
        _remove_empty(folder, {})
        return not folder.exists()
