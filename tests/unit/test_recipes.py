"""Shipped recipes: each builds its method's stages, names every data set that they read, and pins what it fetches."""

from __future__ import annotations

import re

from seft_bench.config import DataConfig, tinyworld_settings
from seft_bench.stages.recipes import load_recipe, needed_data, shipped_recipes
from training.methods import build_stages

COMMIT = re.compile(r"[0-9a-f]{40}")


def test_every_recipe_builds_its_stages_and_names_the_data_that_they_read() -> None:
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert build_stages(recipe.method, recipe.settings, 1)
        if isinstance(recipe.data, DataConfig):
            assert set(needed_data(recipe)) <= set(recipe.data.own_sources), name
        else:
            assert tinyworld_settings(recipe.data), name


def test_data_of_the_hub_is_pinned_to_a_commit() -> None:
    for name in shipped_recipes():
        data = load_recipe(name).data
        if isinstance(data, DataConfig):
            for role, source in data.own_sources.items():
                assert source.base or COMMIT.fullmatch(source.revision or ""), (name, role)


def test_bases_of_the_hub_are_pinned_but_the_one_whose_commit_is_not_known() -> None:
    unpinned = {base for name in shipped_recipes() if "/" in (base := load_recipe(name).base) and "@" not in base}
    assert unpinned == {"princeton-nlp/Llama-3-Base-8B-SFT"}


def test_large_recipes_come_in_full_and_as_lora() -> None:
    large = {name for name in shipped_recipes() if re.search(r"-[78]b-", name)}
    assert {name.removesuffix("-full").removesuffix("-lora") for name in large} == {
        name.removesuffix("-full") for name in large if name.endswith("-full")
    }
    for name in large:
        recipe = load_recipe(name)
        trained = [stage for stage in build_stages(recipe.method, recipe.settings, 1) if stage.kind == "train"]
        adapted = {stage.settings.lora is not None for stage in trained}
        sharded = {stage.settings.sharding for stage in trained}
        assert (adapted, sharded) == (({True}, {"ddp"}) if name.endswith("-lora") else ({False}, {"fsdp"})), name
        assert all(stage.settings.gradient_checkpointing for stage in trained)
