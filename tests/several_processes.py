"""Several processes that train together: forked ones, which import nothing anew, and real ones under torchrun."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


class Raised(str):
    """What a process raised, in words."""


def forked(count: int, target: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `target(processes, *arguments)` in `count` joined processes; return what it returned, by rank.

    Raises:
        RuntimeError: one of them raised something, all of which it says.
    """
    found = raised_in(count, target, *arguments)
    if wrong := [answer for answer in found if isinstance(answer, Raised)]:
        raise RuntimeError("\n".join(wrong))
    return found


def raised_in(count: int, target: Callable[..., Any], *arguments: Any) -> list[Any]:
    """As `forked`, with what a process raised as a text in its place."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    port = free_port()
    children = [
        context.Process(target=_child, args=(rank, count, port, answers, target, arguments)) for rank in range(count)
    ]
    for child in children:
        child.start()
    found = dict(answers.get(timeout=240) for _ in children)
    for child in children:
        child.join(60)
    return [found[rank] for rank in range(count)]


def _child(rank: int, count: int, port: int, answers: Any, target: Callable[..., Any], arguments: Any) -> None:
    from training.distributed import together

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with together() as processes:
            answer = target(processes, *arguments)
    except (Exception, SystemExit) as error:
        answer = Raised(f"{type(error).__name__}: {error}")
    answers.put((rank, answer))


def torchrun(count: int, *arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start `python ARGUMENTS` as `count` processes under torchrun, each with one thread."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
