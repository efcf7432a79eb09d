"""The local executor: cells in processes of this machine, several at a time, with GPUs of their own if there are any.

Worker processes stay alive, because importing torch and transformers costs more than training a small model. Each has a
pipe of its own, so a worker that is killed takes nothing with it: its cell goes to a new one.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import Counter, deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from seft_bench.bench.events import Answered, Failure, RunsAgain, Tick, WorkerEvent
from seft_bench.bench.executors import TICK_SECONDS, Events, ExecutorSettings
from seft_bench.bench.executors.worker import Job, job_of, run_job
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.console import note, wait_silently
from seft_bench.errors import InputError


def run_cells(bench: Bench, todo: Sequence[Cell], settings: ExecutorSettings) -> Events:
    """Train and answer cells in `workers` processes, those that want as many GPUs together; yields what happens.

    Raises:
        InputError: a cell wants more GPUs than there are.
    """
    here = gpus_here()
    check_room(todo, here, cores_here(), settings.gpus_per_cell)  # now, not when the first event is asked for
    return _run_all(bench, todo, here, settings)


def _run_all(bench: Bench, todo: Sequence[Cell], here: Sequence[str], settings: ExecutorSettings) -> Events:
    for gpus in sorted({cell.gpus for cell in todo}):
        yield from _run_alike(bench, [cell for cell in todo if cell.gpus == gpus], gpus, here, settings)


def _run_alike(
    bench: Bench, todo: Sequence[Cell], gpus: int, here: Sequence[str], settings: ExecutorSettings
) -> Events:
    """Run cells that want as many GPUs; workers are new ones, because torch sees the same GPUs all its life."""
    count = min(settings.workers, len(todo))
    shares = gpu_shares(count, here, settings.gpus_per_cell)
    if gpus > 1:
        shares = shares_of_several(count, gpus, here, cores_here(), settings.gpus_per_cell)
    threads = settings.cpus_per_cell or max(1, cores_here() // len(shares))
    workers = [_Worker(share) for share in shares]
    try:
        yield from _follow(workers, deque(job_of(bench, cell, threads) for cell in todo), settings.retries)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process with a pipe; `job` is what it works on."""

    def __init__(self, gpus: str | None) -> None:
        self.gpus = gpus
        self.job: Job | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # fork and torch's threads do not go together
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, self.gpus), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not be the end of the pipe

    def give(self, job: Job) -> None:
        self.job = job
        try:
            self.pipe.send(job)
        except OSError:
            return  # it is gone: reading says so

    def replace(self) -> None:
        """A new process in place of one that was lost."""
        self.end()
        self.job = None
        self._start()

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _follow(workers: Sequence[_Worker], waiting: deque[Job], retries: int) -> Events:
    lost: Counter[str] = Counter()
    while waiting or any(worker.job for worker in workers):
        for worker in workers:
            if worker.job is None and waiting:
                worker.give(waiting.popleft())
        by_pipe = {worker.pipe: worker for worker in workers}
        for pipe in wait(list(by_pipe), TICK_SECONDS):
            worker = by_pipe[pipe]  # type: ignore[index]
            event = _received(worker)
            if event is not None:
                yield event
            elif (job := worker.job) is not None:
                worker.replace()
                lost[job.cell] += 1
                yield _lost(job, lost[job.cell], waiting, retries)
            else:
                worker.replace()
        yield Tick()


def _received(worker: _Worker) -> WorkerEvent | None:
    """The next event of a worker; None when it is gone."""
    try:
        event: WorkerEvent = worker.pipe.recv()
    except (EOFError, OSError):
        return None
    if isinstance(event, Answered | Failure):
        worker.job = None
    return event


def _lost(job: Job, times: int, waiting: deque[Job], retries: int) -> Failure | RunsAgain:
    reason = "its worker process was lost (killed, or out of memory)"
    if times > retries:
        advice = "Give it more memory, or fewer --workers, and run the same command"
        return Failure(job.cell, f"{reason} {times} times. {advice}")
    waiting.appendleft(job)
    return RunsAgain(job.cell, reason)


def _work(pipe: Connection, gpus: str | None) -> None:
    """Do jobs in a worker process until its driver is gone."""
    import signal

    wait_silently()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends the workers
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus  # before torch is imported
    try:
        while True:
            pipe.send(run_job(pipe.recv(), pipe.send))
    except (EOFError, OSError):
        return


# GPUs


def gpus_here() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES calls them.

    torch, which takes seconds to import, is asked only where there is a driver.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists()):
        return []
    torch: Any = __import__("torch")
    return [str(index) for index in range(torch.cuda.device_count())]


def cores_here() -> int:
    return os.cpu_count() or 1


def check_room(todo: Sequence[Cell], gpus: Sequence[str], cores: int, gpus_per_cell: float | None) -> None:
    """Refuse cells that fit at no time; without GPUs a core stands in for each.

    Raises:
        InputError: naming the largest one.
    """
    largest = max(todo, key=lambda cell: cell.gpus, default=None)
    if largest is None or largest.gpus == 1:
        return
    on_gpus = bool(gpus) and gpus_per_cell != 0
    room, kind = (
        (len(gpus), "GPU" if len(gpus) == 1 else "GPUs") if on_gpus else (cores, "cores to train on in place of GPUs")
    )
    if largest.gpus > room:
        raise InputError(
            f"cell {largest.name} wants gpus: {largest.gpus}, and this machine has {room} {kind}. Lower `gpus`, leave "
            "such cells out (--only), or run them on a Ray cluster that has as many on one node (--executor ray)."
        )
    if not on_gpus:
        note(f"no GPU is used: {largest.name} trains in {largest.gpus} processes on the CPU")


def shares_of_several(
    workers: int, gpus_of_cell: int, gpus: Sequence[str], cores: int, gpus_per_cell: float | None
) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each worker whose cells train in several processes, as many as fit at a time.

    >>> shares_of_several(3, 2, ["0", "1", "2", "3"], 8, None)
    ['0,1', '2,3']
    >>> shares_of_several(3, 2, [], 4, None)
    [None, None]
    """
    if gpus and gpus_per_cell != 0:
        return gpu_shares(min(workers, len(gpus) // gpus_of_cell), gpus, gpus_of_cell)
    return gpu_shares(min(workers, cores // gpus_of_cell), [], gpus_per_cell)


def gpu_shares(workers: int, gpus: Sequence[str], gpus_per_cell: float | None) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each worker: GPUs of its own, round robin; None leaves the variable alone.

    >>> gpu_shares(3, ["0", "1", "2", "3"], 2)
    ['0,1', '2,3', '0,1']

    Raises:
        InputError: a cell wants more GPUs than there are.
    """
    wanted = 1 if gpus_per_cell is None else max(1, round(gpus_per_cell)) if gpus_per_cell else 0
    if gpus_per_cell and wanted > len(gpus):
        raise InputError(f"a cell wants {wanted} GPUs and this machine has {len(gpus)}: give --gpus-per-cell")
    if not gpus or not wanted:
        return [None if gpus_per_cell is None else ""] * workers
    groups = [",".join(gpus[start : start + wanted]) for start in range(0, len(gpus) - wanted + 1, wanted)]
    return [groups[worker % len(groups)] for worker in range(workers)]
