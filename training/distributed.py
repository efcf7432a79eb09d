"""The processes that train together: one by default, several under `torchrun`; and what each does of a global batch.

Every process runs the same program. What they exchange are sums of tensors and small JSON values; the first process
(rank 0) alone writes files and speaks. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from seft_bench.errors import InputError, ProcessLostError, SeftBenchError
from seft_bench.files import locked

if TYPE_CHECKING:
    from torch import Tensor

JsonT = TypeVar("JsonT")
ItemT = TypeVar("ItemT")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one of them may judge, download or write for hours."""
ENDED_WITHIN_SECONDS = 30.0
"""For torchrun to end a process, after another one has told what went wrong."""
APPEARS_WITHIN_SECONDS = 20.0
"""For a file that one machine wrote to be seen on another: network folders show new files late."""

LOOKS_EVERY_SECONDS = 0.5
"""For the process that started this one to be seen ended."""


@dataclass(frozen=True)
class Processes:
    """The processes of one command, seen from one of them; every method is called by all of them alike.

    Attributes:
        rank: this process, from 0; the first one writes and speaks.
        size: how many there are.
        local_rank: this process among those on its machine, which is also the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def device(self, name: str) -> str:
        """Return the device of this process: with several of them, "auto" and "cuda" are a GPU of its own.

        Raises:
            InputError: all of them would share one GPU, or there are more processes than GPUs.
        """
        import torch

        if self.size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
            return name
        if name not in ("auto", "cuda"):
            raise InputError(f"device {name!r} is one device, and {self.size} processes train: write device: cuda")
        if self.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {self.rank} has no GPU of its own: {platform.node()} has {torch.cuda.device_count()}. Start "
                "as many processes a machine as it has GPUs (torchrun --nproc_per_node), or train with device: cpu."
            )
        return f"cuda:{self.local_rank}"

    def barrier(self) -> None:
        """Wait until all have come here."""
        if self.size > 1:
            import torch

            self.add_up(torch.zeros(1))

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def total(self, number: float) -> float:
        """Sum of a number over all processes."""
        return number if self.size == 1 else sum(self.gather(number))

    def from_main(self, make: Callable[[], JsonT]) -> JsonT:
        """Return what `make` returns in the first process, which alone calls it, as JSON keeps it."""
        if self.size == 1:
            return make()
        import torch
        import torch.distributed as dist

        mine = _encoded(make() if self.is_main else None)
        length = torch.tensor([len(mine)])
        dist.broadcast(length, src=0)
        text = mine if self.is_main else torch.zeros(int(length), dtype=torch.uint8)
        dist.broadcast(text, src=0)
        return _decoded(text)  # type: ignore[no-any-return]

    def gather(self, value: JsonT) -> list[JsonT]:
        """Return the values of all processes, by rank, as JSON keeps them."""
        if self.size == 1:
            return [value]
        import torch
        import torch.distributed as dist

        mine = _encoded(value)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(mine)]))
        longest = max(int(length) for length in lengths)
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(texts, torch.nn.functional.pad(mine, (0, longest - len(mine))))
        return [_decoded(text[: int(length)]) for text, length in zip(texts, lengths, strict=True)]

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the first process do something before the others do the same, and find it done."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()

    @contextlib.contextmanager
    def locked(self, path: Path, on_wait: Callable[[str], None] = lambda holder: None) -> Iterator[None]:
        """Hold one lock for all processes; what the first one wrote under it is there for all of them afterwards."""
        with locked(path, on_wait) if self.is_main else contextlib.nullcontext():
            self.barrier()
            yield
            self.barrier()

    def check_shared(self, folder: Path) -> None:
        """Refuse a folder that some processes do not see as the first one does, as on a machine of their own.

        Raises:
            InputError: naming the machines that do not see it.
        """
        if self.size == 1:
            return
        probe = folder / f".seen-by-all-{self.from_main(time.time_ns)}"
        if self.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
        self.barrier()
        blind = sorted({host for host in self.gather("" if _appears(probe) else platform.node()) if host})
        if self.is_main:
            probe.unlink()
        if blind:
            raise InputError(
                f"the run's folder {folder.absolute()} is not the same on {', '.join(blind)}: several machines need "
                "one shared folder. Give --out a folder that all of them mount."
            )


ALONE = Processes()


def _encoded(value: object) -> Tensor:
    import torch

    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decoded(text: Tensor) -> Any:
    return json.loads(text.numpy().tobytes())


def _appears(path: Path) -> bool:
    """Return whether a file is there, or comes soon."""
    end = time.monotonic() + APPEARS_WITHIN_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


# Under torchrun


def launched_processes() -> Processes:
    """Read from the environment what torchrun says of this process; one process alone without it.

    Raises:
        InputError: some of its variables are set, and the others are not.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except (KeyError, ValueError):
        raise InputError(
            "WORLD_SIZE is set, but RANK and LOCAL_RANK are no numbers beside it. Start several processes with "
            "torchrun, or unset WORLD_SIZE."
        ) from None
    return Processes(rank, size, local)


@contextlib.contextmanager
def together() -> Iterator[Processes]:
    """Join the processes that torchrun started, and part at the end; one process alone without it.

    An error is told once, by the process that met it first: the others wait for torchrun to end them.

    Raises:
        ProcessLostError: another process died.
    """
    processes = launched_processes()
    if processes.size == 1:
        yield processes
        return
    import torch.distributed as dist

    _end_with_launcher()
    store = _join(processes)
    try:
        yield processes
    except BaseException as error:
        if not _is_first(store):
            time.sleep(ENDED_WITHIN_SECONDS)
            raise SystemExit(error.exit_status if isinstance(error, SeftBenchError) else 1) from None
        if _is_loss(error):
            raise ProcessLostError(
                f"process {processes.rank} of {processes.size} lost another one, which was killed or cannot be "
                "reached. What was saved is kept, and the same command goes on."
            ) from error
        raise
    processes.barrier()  # nobody leaves while another one still needs the exchange
    dist.destroy_process_group()


def _end_with_launcher() -> None:
    """Watch for the end of the process that started this one: torchrun, killed, ends nobody, and GPUs stay full."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(LOOKS_EVERY_SECONDS)
        os._exit(ProcessLostError.exit_status)

    threading.Thread(target=watch, daemon=True).start()


def _is_first(store: Any) -> bool:
    """Return whether no process has failed before this one; where nobody can be asked, another one has."""
    import torch.distributed as dist

    try:
        return bool(store.add("failed", 1) == 1)
    except dist.DistError:
        return False


def _join(processes: Processes) -> Any:
    """Open the exchange: gloo for tensors on the CPU, NCCL for those on GPUs. Return the store that all share."""
    import torch
    import torch.distributed as dist

    [(store, rank, size)] = [next(dist.rendezvous("env://", processes.rank, processes.size))]
    store.set_timeout(PATIENCE)
    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        if processes.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(processes.local_rank)
    dist.init_process_group(
        backend, store=dist.PrefixStore("exchange", store), rank=rank, world_size=size, timeout=PATIENCE
    )
    return dist.PrefixStore("seft-bench", store)


def _is_loss(error: BaseException) -> bool:
    """Return whether an exchange broke: gloo tells it by text alone."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


# What one process does of a global batch


class MicroBatch(NamedTuple):
    """Examples of one forward; `counts` is False where a process only keeps step with the others."""

    indices: list[int]
    counts: bool


def micro_batches(batch: Sequence[int], micro_batch_size: int, processes: Processes = ALONE) -> list[MicroBatch]:
    """Cut a global batch, sorted by length, into one process's micro-batches: as many in each process.

    Each takes every size-th example, so all have like lengths. One that has no more examples repeats the first one
    without counting it, because a sharded forward needs all processes.

    >>> micro_batches([4, 7, 1, 3, 2], 2)
    [MicroBatch(indices=[4, 7], counts=True), MicroBatch(indices=[1, 3], counts=True), MicroBatch(indices=[2], counts=True)]
    >>> micro_batches([4, 7, 1, 3, 2], 2, Processes(rank=1, size=2))
    [MicroBatch(indices=[7, 3], counts=True), MicroBatch(indices=[4], counts=False)]
    """  # noqa: E501
    mine = list(batch[processes.rank :: processes.size])
    longest = -(-len(batch) // processes.size)
    parts = [mine[start : start + micro_batch_size] for start in range(0, longest, micro_batch_size)]
    return [MicroBatch(part, True) if part else MicroBatch([batch[0]], False) for part in parts]


def in_turns(batches: Sequence[ItemT], processes: Processes) -> list[ItemT]:
    """Choose one process's batches, every size-th; the last ones repeat so that all have as many.

    >>> in_turns(["a", "b", "c"], Processes(rank=1, size=2))
    ['b', 'c']
    """
    rounds = -(-len(batches) // processes.size)
    return [batches[min(turn * processes.size + processes.rank, len(batches) - 1)] for turn in range(rounds)]
