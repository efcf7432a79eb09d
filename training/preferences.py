"""Methods that train a policy by a loss of preferences: one for each entry of `LOSSES` that compares or labels answers.

The policy starts from the start (ORPO from the base, as in its paper), which is also the reference where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, create_model

from seft_bench.config import Strict
from seft_bench.records import Data

from .loss_table import LOSSES, Loss, Name, Setting
from .settings import TrainSettings
from .stages import Shape, Stage, Train
from .start import SftSettings, policy_start, start_stages

LEARNING_RATE, STEPS = 2e-4, 150
"""Of a policy on the tinyworld, where `TUNED` says nothing else."""

TUNED: dict[str, dict[str, float | str]] = {
    "dpo-hinge": {"beta": 0.3},
    "dpo-exo": {"beta": 0.3},
    "r-dpo": {"beta": 0.3},
    "ld-dpo": {"beta": 0.3, "alpha": 0.25},
    "ipo": {"learning_rate": 4e-4},
    "ipo-mean": {"beta": 0.3},
    "apo-zero": {"learning_rate": 4e-4, "beta": 0.3},
    "apo-down": {"learning_rate": 1e-4, "beta": 0.3},
    "nca": {"learning_rate": 4e-4, "beta": 0.1},
    "sppo": {"beta": 0.03},
    "discopop": {"beta": 0.3, "tau": 1.0},
    "orpo": {"init": "base", "learning_rate": 6e-4, "beta": 0.5},
    "cpo": {"learning_rate": 4e-4},
    "slic": {"learning_rate": 4e-4, "nll_weight": 1.0},
    "kto": {"learning_rate": 4e-4, "beta": 0.3},
    "apo-zero-labelled": {"learning_rate": 4e-4, "beta": 0.3},
}
"""Method -> defaults for the tinyworld that are not those of its loss: the best of the tries on tuning questions.

The tries are in `results/methods-tuning` and `results/tinyworld-tuning`. A method that is not here does best, of its
tries, with the defaults of its loss, or has not been tuned.
"""


class PreferenceSettings(SftSettings):
    """The policy's training by a loss of preferences, from the start."""

    policy: TrainSettings


class LabelSettings(PreferenceSettings):
    """The policy's training on single answers that are labelled desirable or not."""

    labels: Literal["preferences", "unpaired"] = Field(
        default="preferences",
        description="where labelled answers come from: both answers of each preference pair, or the unpaired data",
    )


def settings_class(name: str) -> type[PreferenceSettings]:
    """Make the settings of a method: the policy's training, and the settings of its loss."""
    loss, tuned = LOSSES[name], TUNED.get(name, {})
    learning_rate = float(tuned.get("learning_rate", LEARNING_RATE))
    fields: dict[str, Any] = {"policy": (TrainSettings, TrainSettings(learning_rate=learning_rate, max_steps=STEPS))}
    if "init" in tuned:
        described = SftSettings.model_fields["init"].description
        fields["init"] = (str, Field(default=tuned["init"], min_length=1, description=described))
    for key, setting in loss.settings.items():
        fields[key] = _field(setting, tuned.get(key, setting.default))
    base = LabelSettings if loss.rows == "labels" else PreferenceSettings
    made: type[PreferenceSettings] = create_model(
        f"{name.title()}Settings", __base__=base, __doc__=loss.summary, **fields
    )
    return made


def _field(setting: Setting, default: float | str) -> tuple[Any, Any]:
    if isinstance(setting, Name):
        return Literal[*setting.choices], Field(default=default)
    return float, Field(default=default, gt=setting.above, ge=setting.at_least, lt=setting.below, allow_inf_nan=False)


def preference_stages(name: str, settings: PreferenceSettings, checkpoints: int) -> list[Stage]:
    """Train the start, then the policy by the loss of that name."""
    loss, start = LOSSES[name], policy_start(settings)
    data, shape = _rows(loss, settings)
    policy = Train(
        name,
        start,
        data,
        shape,
        settings.policy,
        loss=name,
        loss_settings=_loss_settings(loss, settings),
        checkpoints=checkpoints,
        reference=start if loss.needs_reference else None,
    )
    return [*start_stages(settings, checkpoints), policy]


def _rows(loss: Loss, settings: Strict) -> tuple[Data, Shape]:
    if loss.rows == "pairs":
        return Data("preferences"), Shape("pairs")
    source = settings.labels if isinstance(settings, LabelSettings) else "preferences"
    return Data(source), Shape("labelled_answers" if source == "unpaired" else "pairs_as_labelled_answers")


def _loss_settings(loss: Loss, settings: PreferenceSettings) -> Mapping[str, float | str]:
    return {key: getattr(settings, key) for key in loss.settings}
