"""Runs `seft-bench ARGUMENTS` and kills itself by SIGKILL before its n-th write in a stage's folder.

`python killed_at.py STAGE N ARGUMENTS...`; a write is a file opened for writing, or one put into its place.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR


def written_path(event: str, arguments: tuple[Any, ...]) -> str:
    """Return the path that an audit event writes to; "" where it writes nothing."""
    if event == "os.rename":
        return os.fspath(arguments[1]) if isinstance(arguments[1], str | os.PathLike) else ""
    if event == "open" and isinstance(arguments[0], str | os.PathLike):
        mode, flags = arguments[1], arguments[2] or 0
        return os.fspath(arguments[0]) if any(letter in (mode or "") for letter in "wax+") or flags & WRITES else ""
    return ""


def watch_writes(on_write: Callable[[str], None]) -> Callable[[], None]:
    """Call `on_write` with the name of the stage before each write in its folder; return what ends that."""
    active = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if active and (path := written_path(event, arguments)):
            parts = Path(path).parts
            if "stages" in parts[:-2] and ".locks" not in parts and not path.endswith("lock"):
                on_write(parts[parts.index("stages") + 1].rpartition("-")[0])

    def end() -> None:
        nonlocal active
        active = False

    sys.addaudithook(hook)
    return end


def main(stage: str, number: int, arguments: list[str]) -> None:
    """Run the command until the write."""
    left = number

    def on_write(name: str) -> None:
        nonlocal left
        left -= name == stage
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_writes(on_write)
    import torch

    from seft_bench.cli import main as cli

    torch.set_num_threads(1)  # as in the run that is not killed
    sys.argv = ["seft-bench", *arguments]
    cli.main()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
