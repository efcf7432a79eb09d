"""A method brought to a budget: the training of its policy gets what its other stages leave.

Counted are the stages beyond the start, which methods share. A method that cannot be brought there is refused, with
the reason, and so are settings that say another length than the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seft_bench.errors import InputError

from .methods import EVERY_TRAINING, build_stages, checked_settings, find_method
from .settings import LENGTHS, TrainSettings, course_of
from .stages import Stage, Train

Unit = Literal["steps", "tokens"]
"""What a budget counts: optimizer steps, or tokens trained on (at most so many: a step is whole)."""

POLICY = "policy"
"""Name of the settings of a policy's training, in every method that has one."""


@dataclass(frozen=True)
class Budgeted:
    """A method at its budget.

    Attributes:
        settings: with the policy's length.
        stages: training stage beyond the start -> its share, in the budget's unit.
    """

    settings: dict[str, Any]
    stages: Mapping[str, int]


def at_budget(method: str, settings: Mapping[str, Any], unit: Unit, amount: int) -> Budgeted:
    """Give a method's policy what its other training stages beyond the start leave of the budget.

    Raises:
        InputError: why it cannot have them.
    """
    if not trained_beyond_start(build_stages(method, settings, 1)):
        return Budgeted(dict(settings), {})
    if POLICY not in find_method(method).settings.model_fields:
        raise InputError("it trains no policy that a start could be compared with")
    _refuse_other_lengths(settings)
    whole = _shares_of(method, _with_policy(settings, unit, amount), unit)
    others = sum(whole.values()) - amount
    if others >= amount:
        raise InputError(f"its other stages take {others} {unit} ({_in_words(whole)}), which leaves the policy none")
    given = _with_policy(settings, unit, amount - others)
    found = _shares_of(method, given, unit)
    if sum(found.values()) != amount:
        raise InputError(f"its rounds take at least 1 each, so it takes {sum(found.values())} ({_in_words(found)})")
    return Budgeted(given, found)


def trained_beyond_start(stages: Sequence[Stage]) -> list[Train]:
    return [stage for stage in stages if stage.kind == "train" and stage.name != "start"]


def _refuse_other_lengths(settings: Mapping[str, Any]) -> None:
    for name in (POLICY, EVERY_TRAINING):
        given = settings.get(name)
        for key in LENGTHS:
            if isinstance(given, Mapping) and given.get(key) is not None:
                raise InputError(f"settings.{name}.{key}: {given[key]} contradicts it: leave it out")


def _with_policy(settings: Mapping[str, Any], unit: Unit, amount: int) -> dict[str, Any]:
    return {**settings, POLICY: {**(settings.get(POLICY) or {}), f"max_{unit}": amount}}


def _shares_of(method: str, settings: Mapping[str, Any], unit: Unit) -> dict[str, int]:
    """Map each training stage beyond the start to its steps or tokens.

    Raises:
        InputError: one of them may take another number.
    """
    key = f"max_{unit}"
    trainings = trained_beyond_start(build_stages(method, settings, 1))
    if unknown := [stage for stage in trainings if getattr(stage.settings, key) is None]:
        names = " and ".join(stage.name for stage in unknown)
        wanted = ", ".join(f"settings.{name}.{key}" for name in _keys_of(method, settings, unknown))
        raise InputError(f"nobody knows the {unit} of {names} before the rows are made: give {wanted}")
    for stage in trainings:
        if stage.settings.validation and stage.settings.validation.early_stop:
            raise InputError(f"{stage.name} may stop early (validation.early_stop)")
        _ = stage.job(0)
        if stage.settings.max_steps:
            _ = course_of(stage.settings, stage.settings.max_steps)
    return {stage.name: getattr(stage.settings, key) for stage in trainings}


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
