"""The start that methods share: SFT on annotated conversations, stage "start"."""

from __future__ import annotations

from seft_bench.config import Strict
from seft_bench.records import Base, Data, Output

from .settings import TrainSettings
from .stages import Shape, Train


class SftSettings(Strict):
    """The start of every method: SFT on annotated conversations."""

    start: TrainSettings = TrainSettings(learning_rate=5e-4, epochs=3)


START = Output("start")
"""The checkpoint that most policies start from."""


def start_stage(settings: SftSettings, checkpoints: int) -> Train:
    """Build the stage that makes it: equal settings give equal stages, which methods then share."""
    return Train("start", Base(), Data("sft"), Shape("answers"), settings.start, checkpoints=checkpoints)
