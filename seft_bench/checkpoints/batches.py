"""Work on a model in batches of a size that its memory bears."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from seft_bench.console import note
from seft_bench.errors import InputError, is_out_of_memory

ItemT = TypeVar("ItemT")
DoneT = TypeVar("DoneT")


class Batches:
    """Batches that are halved where memory does not suffice, for all that follow too; it is said once.

    Attributes:
        size: of the next batch.
    """

    def __init__(self, size: int, what: str) -> None:
        self.size = size
        self._what, self._was_said = what, False

    def over(
        self, items: Sequence[ItemT], work: Callable[[Sequence[ItemT]], Sequence[DoneT]]
    ) -> Iterator[tuple[ItemT, DoneT]]:
        """Yield each item with what `work`, which takes a batch, makes of it.

        Raises:
            InputError: not even one item fits into memory.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + self.size]
            done = self._tried(batch, work)
            if done is not None:
                start += len(batch)
                yield from zip(batch, done, strict=True)

    def _tried(
        self, batch: Sequence[ItemT], work: Callable[[Sequence[ItemT]], Sequence[DoneT]]
    ) -> Sequence[DoneT] | None:
        """Do the work, or halve the size and return None."""
        try:
            return work(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise InputError(
                    f"{self._what}: not even one at a time (a batch_size of 1) fits into memory. Take a shorter limit "
                    "of tokens, a GPU with more memory, or a smaller model; answer and judge in "
                    "runs of their own (--stage). What was finished is kept."
                ) from None
        free_memory()  # only now: the error held on to what the batch had made
        self.size = len(batch) // 2
        if not self._was_said:
            note(f"{self._what}: {len(batch)} at a time do not fit into memory; going on with {self.size}, or fewer")
            self._was_said = True
        return None


def free_memory() -> None:
    """Give a dropped model's memory back: the next one needs the room."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
