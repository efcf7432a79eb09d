"""Recipes of `seft-bench train`: the shipped ones in training/recipes/, or a YAML file of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seft_bench.config import RecipeConfig, load_yaml
from seft_bench.errors import unknown_name

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
        InputError: unknown name, broken YAML, or wrong values, all of them at once.
    """
    if "=" in name:
        name, overrides = DEFAULT_RECIPE, [name, *overrides]
    recipe: RecipeConfig = load_yaml(_find(name), RecipeConfig, overrides)
    return recipe


def _find(name: str) -> Path:
    known = shipped_recipes()
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise unknown_name("recipe", name, known, "A recipe of your own is named by its file, NAME.yaml.")
