"""A method brought to a budget: the training of its policy gets what its other stages leave.

Counted are the stages beyond the start, which methods share. A method that cannot be brought there is refused, with
the reason, and so are settings that say another length than the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seft_bench.errors import InputError

from .methods import EVERY_TRAINING, build_stages, checked_settings, find_method
from .settings import TrainSettings, course_of
from .stages import Stage, Train

POLICY = "policy"
"""Name of the settings of a policy's training, in every method that has one."""


@dataclass(frozen=True)
class Budgeted:
    """A method at its budget.

    Attributes:
        settings: with the policy's length.
        stages: training stage beyond the start -> its steps.
    """

    settings: dict[str, Any]
    stages: Mapping[str, int]


def at_steps(method: str, settings: Mapping[str, Any], steps: int) -> Budgeted:
    """Give a method's policy the steps that its other training stages beyond the start leave of `steps`.

    Raises:
        InputError: why it cannot have them.
    """
    if not trained_beyond_start(build_stages(method, settings, 1)):
        return Budgeted(dict(settings), {})
    if POLICY not in find_method(method).settings.model_fields:
        raise InputError("it trains no policy that a start could be compared with")
    _refuse_other_lengths(settings)
    whole = _steps_of(method, _with_policy_steps(settings, steps))
    others = sum(whole.values()) - steps
    if others >= steps:
        raise InputError(f"its other stages take {others} steps ({_in_words(whole)}), which leaves the policy none")
    given = _with_policy_steps(settings, steps - others)
    found = _steps_of(method, given)
    if sum(found.values()) != steps:
        raise InputError(
            f"its rounds train at least a step each, so it takes {sum(found.values())} ({_in_words(found)})"
        )
    return Budgeted(given, found)


def trained_beyond_start(stages: Sequence[Stage]) -> list[Train]:
    return [stage for stage in stages if stage.kind == "train" and stage.name != "start"]


def _refuse_other_lengths(settings: Mapping[str, Any]) -> None:
    for name in (POLICY, EVERY_TRAINING):
        given = settings.get(name)
        for key in ("max_steps", "epochs"):
            if isinstance(given, Mapping) and given.get(key) is not None:
                raise InputError(f"settings.{name}.{key}: {given[key]} contradicts it: leave it out")


def _with_policy_steps(settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
    return {**settings, POLICY: {**(settings.get(POLICY) or {}), "max_steps": steps}}


def _steps_of(method: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """Map each training stage beyond the start to its steps.

    Raises:
        InputError: one of them may take another number.
    """
    trainings = trained_beyond_start(build_stages(method, settings, 1))
    if unknown := [stage for stage in trainings if stage.settings.max_steps is None]:
        names = " and ".join(stage.name for stage in unknown)
        keys = ", ".join(f"settings.{key}.max_steps" for key in _keys_of(method, settings, unknown))
        raise InputError(f"{names} last epochs, whose steps nobody knows before their rows are made: give {keys}")
    for stage in trainings:
        if stage.settings.validation and stage.settings.validation.early_stop:
            raise InputError(f"{stage.name} may stop early (validation.early_stop)")
        _ = course_of(stage.settings, stage.settings.max_steps or 0), stage.job(0)
    return {stage.name: stage.settings.max_steps or 0 for stage in trainings}


def _keys_of(method: str, settings: Mapping[str, Any], stages: Sequence[Train]) -> list[str]:
    """Name the method's settings that stages were made with."""
    checked = checked_settings(method, settings)
    own = {
        key: value for key in type(checked).model_fields if isinstance(value := getattr(checked, key), TrainSettings)
    }
    used = [stage.settings for stage in stages]
    return [key for key, value in own.items() if key != "start" and value in used]


def _in_words(steps: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in steps.items())
