"""Recipes of `seft-bench train`: the shipped ones in training/recipes/, or a YAML file of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.checkpoints import fingerprint
from seft_bench.config import RecipeConfig, read_yaml, validate, with_overrides
from seft_bench.data.bases import read_chat_template, shipped_chat_templates
from seft_bench.data.training import content_hashes, ready_folder
from seft_bench.errors import InputError, unknown_name
from seft_bench.stages import door
from seft_bench.stages.graders import check_judges, judge_contents

if TYPE_CHECKING:
    from seft_bench.stages.door import stages

DEFAULT_RECIPE = "tiny-seft"


def recipes_folder() -> Path:
    """training/recipes in a checkout, the package's copy in a wheel."""
    here = Path(__file__).resolve().parent.parent
    packaged = here / "_training" / "recipes"
    return packaged if packaged.is_dir() else here.parent / "training" / "recipes"


def shipped_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def load_recipe(name: str = DEFAULT_RECIPE, overrides: Sequence[str] = ()) -> RecipeConfig:
    """Load a recipe with `key=value` overrides; a name that is itself an override means the default recipe.

    Raises:
        InputError: unknown name, broken YAML, or wrong values or settings, all of them at once.
    """
    if "=" in name:
        name, overrides = DEFAULT_RECIPE, [name, *overrides]
    path = _find(name)
    recipe: RecipeConfig = validate(with_overrides(_extended(path, ()), overrides), RecipeConfig, str(path))
    try:
        check_judges(_plan(recipe))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if recipe.chat_template is None or recipe.chat_template in shipped_chat_templates():
        return recipe
    # A run's recipe holds the text: a file may change under its name.
    return recipe.model_copy(update={"chat_template": read_chat_template(recipe.chat_template)})


def _extended(path: Path, below: Sequence[Path]) -> dict[str, Any]:
    """Read a recipe laid over the ones that it `extends`: a file beside it or a shipped recipe, later ones on top.

    Args:
        below: the files that are being read because of this one.

    Raises:
        InputError: a file is missing or extends itself.
    """
    if path.resolve() in below:
        raise InputError(f"{path} extends itself, through {', '.join(map(str, below))}")
    own = read_yaml(path)
    named = own.pop("extends", [])
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: extends names a recipe or a list of them, got {named!r}")
    values: dict[str, Any] = {}
    for name in names:
        parent = path.parent / name if name.endswith((".yaml", ".yml")) else _find(name)
        values = _laid_over(values, _extended(parent, (*below, path.resolve())))
    return _laid_over(values, own)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay a recipe over another; a role's new source takes nothing of the old one, such as its split or commit."""
    merged = door.methods.merge_settings(below, above)
    data = above.get("data")
    if isinstance(data, dict) and ("tinyworld" in data) != ("tinyworld" in (below.get("data") or {})):
        merged["data"] = data  # nothing of the tinyworld's data in one's own, and the other way round
    elif isinstance(data, dict) and isinstance(merged["data"], dict):
        merged["data"] |= {
            role: source for role, source in data.items() if isinstance(source, dict) and "source" in source
        }
    return merged


def needed_data(recipe: RecipeConfig) -> list[str]:
    """Name the data sets that a recipe's stages read.

    Raises:
        InputError: unknown method or wrong settings.
    """
    return door.stages.data_sets(_plan(recipe))


def _plan(recipe: RecipeConfig) -> list[stages.Stage]:
    return door.methods.build_stages(recipe.method, recipe.settings, 1)


def contents_of(recipe: RecipeConfig) -> dict[str, str]:
    """Hash what a recipe's base, ready models and data sets hold: as much its identity as its settings.

    Returns:
        As `content_hashes`, "model/PATH" of each folder of a ready model, of a run its last checkpoint, and
        "grader/FILE" of each judge's file.
    """
    plan = _plan(recipe)
    ready = {name: ready_folder(name) for name in door.stages.ready_models(plan)}
    models = {f"model/{name}": fingerprint(folder) for name, folder in ready.items() if folder}
    return content_hashes(recipe.base, recipe.data, door.stages.data_sets(plan)) | models | judge_contents(plan)


def _find(name: str) -> Path:
    known = shipped_recipes()
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise unknown_name("recipe", name, known, "A recipe of your own is named by its file, NAME.yaml.")
