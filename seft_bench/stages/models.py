"""The models that a recipe's stages start from: its base and ready ones, each with the recipe's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from seft_bench.checkpoints.classifiers import is_reward_model
from seft_bench.config import RecipeConfig
from seft_bench.console import note
from seft_bench.data.bases import with_chat_template, with_size
from seft_bench.data.training import open_base, open_blank_base, open_ready_model
from seft_bench.stages import door

if TYPE_CHECKING:
    from seft_bench.stages.door import stages


class Models(NamedTuple):
    """Folders of the models that stages start from.

    Attributes:
        base: a ready model's where no stage reads the base.
        ready: those that `init` and other settings name, by their value.
    """

    base: Path
    ready: Mapping[str, Path]


def open_models(recipe: RecipeConfig, plan: Sequence[stages.Stage], folder: Path) -> Models:
    """Find the models of a recipe, fetch them, or make them in `folder`, where they get another chat template.

    Raises:
        InputError: a base or ready model that is missing, or a template that cannot be used.
    """
    ready = {
        name: _templated(recipe, _ready(name, setting_of(recipe.settings, name)), folder)
        for name in door.stages.ready_models(plan)
    }
    if door.stages.reads_base(plan):
        return Models(_base(recipe, folder), ready)
    return Models(next(iter(ready.values())), ready)


def setting_of(settings: Mapping[str, Any], name: str) -> str:
    """Say which setting of a method names a ready model, for messages about it."""
    meant = (name, f"{door.graders.MODEL_LIKELIHOOD}{name}", f"{door.graders.MODEL_REWARD}{name}")
    return next((key for key, value in settings.items() if value in meant), "init")


def _ready(name: str, setting: str) -> Path:
    found = open_ready_model(name, setting)
    if Path(name).is_dir() and found != Path(name):
        what = "the policy starts at" if setting == "init" else "it stands for"
        note(f"{setting} {name} is a run: {what} its last checkpoint, {found.name}")
    return found


def _base(recipe: RecipeConfig, folder: Path) -> Path:
    """The base's folder; a blank one, for pre-training, is made on the spot."""
    if recipe.method == "pretrain":
        blank = open_blank_base(recipe.base, folder)
        size = {key: value for key, value in (recipe.settings.get("size") or {}).items() if value is not None}
        return with_size(blank, size, folder / "bases") if size else blank
    return _templated(recipe, open_base(recipe.base), folder)


def _templated(recipe: RecipeConfig, model: Path, folder: Path) -> Path:
    """Give a model the recipe's chat template; a reward model keeps the one that it learnt its rewards by."""
    if not recipe.chat_template or is_reward_model(model):
        return model
    return with_chat_template(model, recipe.chat_template, folder / "bases")
