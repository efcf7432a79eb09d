"""Where policies start: at the stage "start", SFT on annotated conversations, which methods share; or elsewhere."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field

from seft_bench.config import Strict
from seft_bench.records import Base, Data, Model, Output, Source

from .settings import TrainSettings
from .stages import Shape, Stage, Train


class SftSettings(Strict):
    """The start of every method: SFT on annotated conversations."""

    start: TrainSettings = TrainSettings(learning_rate=5e-4, epochs=3)
    init: str = Field(
        default="start",
        min_length=1,
        description="where the policy starts: start (SFT on annotated conversations first), base, or a ready model: "
        "its folder, an adapter's folder, or a hub id",
    )

    def changed(self, keys: Collection[str]) -> list[str]:
        """Name those of the keys whose values are no defaults."""
        return [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]


def refuse(conflicts: Collection[str]) -> None:
    """Refuse settings that cannot work together, all of them at once."""
    if conflicts:
        raise ValueError("\n  ".join(conflicts))


def policy_start(settings: SftSettings) -> Source:
    """Say where the policy starts."""
    named: dict[str, Source] = {"start": Output("start"), "base": Base()}
    return named.get(settings.init, Model(settings.init))


def start_stages(settings: SftSettings, checkpoints: int) -> list[Stage]:
    """Build the stage that makes the start; none where the policy starts elsewhere.

    Equal settings give equal stages, which methods then share.
    """
    return [sft_stage(Base(), settings, checkpoints)] if settings.init == "start" else []


def sft_stage(model: Source, settings: SftSettings, checkpoints: int) -> Train:
    return Train("start", model, Data("sft"), Shape("answers"), settings.start, checkpoints=checkpoints)


def good_answers_stage(start: Source, settings: TrainSettings, checkpoints: int) -> Train:
    """SFT on the good answers of the preference data: the policy that is called chosen."""
    return Train("chosen", start, Data("preferences"), Shape("good_answers"), settings, checkpoints=checkpoints)
