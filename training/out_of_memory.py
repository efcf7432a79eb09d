"""A training that does not fit into memory, in words that say what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from seft_bench.checkpoints.weights import first_line
from seft_bench.errors import InputError, is_out_of_memory

from .settings import TrainSettings


@contextmanager
def memory_explained(settings: TrainSettings) -> Iterator[None]:
    """Name the settings that a training's memory hangs on, where it does not suffice.

    Nothing is halved by itself, as texts are: gradients of other micro-batches are rounded otherwise, and a run that
    goes on must make the very weights that it would have made.

    Raises:
        InputError: it does not suffice.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        checkpointing = "on" if settings.gradient_checkpointing else "off"
        raise InputError(
            f"this training does not fit into memory ({first_line(error)}): micro_batch_size is "
            f"{settings.micro_batch_size}, gradient_checkpointing is {checkpointing}, max_length is "
            f"{settings.max_length}. Lower micro_batch_size (the same training in smaller parts), set "
            "gradient_checkpointing: true, or train with lora; `train --dry-run` says what fits. Stages that are "
            "finished are kept."
        ) from None
