"""YAML to strict configs: everything wrong with a file at once, overrides, and secrets by name only."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from seft_bench import config
from seft_bench.config import MatrixConfig, OpenAIJudgeConfig, RecipeConfig, load_judge, load_suite, load_yaml, validate
from seft_bench.errors import InputError
from seft_bench.judges import open_judge
from seft_bench.judges.openai_compatible import OpenAIJudge
from seft_bench.stages.recipes import load_recipe

RECIPE = "name: mine\nmethod: sft\nbase: tinyworld\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def wrong(path: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_yaml(path, RecipeConfig, overrides)
    return str(caught.value)


def test_defaults_fill_what_is_not_said(recipe: Path) -> None:
    loaded = load_yaml(recipe, RecipeConfig)
    assert (loaded.name, loaded.data, loaded.seed, loaded.settings) == ("mine", "tinyworld", 0, {})


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=3", "seed", 3),
        ("base=org/name", "base", "org/name"),
        ("settings={a: 1}", "settings", {"a": 1}),
        ("description=a=b", "description", "a=b"),
    ],
)
def test_overrides_are_read_as_yaml(recipe: Path, override: str, key: str, value: object) -> None:
    assert getattr(load_yaml(recipe, RecipeConfig, [override]), key) == value


def test_overrides_reach_any_depth_and_the_last_one_counts(recipe: Path) -> None:
    loaded = load_yaml(
        recipe,
        RecipeConfig,
        ["settings.policy.learning_rate=1e-3", "settings.policy.epochs=2", "settings.policy.epochs=3"],
    )
    assert loaded.settings == {
        "policy": {"learning_rate": "1e-3", "epochs": 3}
    }  # YAML 1.1 reads 1e-3 as text; the method's settings make a number of it


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "'seed' is not of the form key=value"),
        ("=3", "is not of the form key=value"),
        ("name.first=a", "'name' holds a value, not keys"),
        ("seed={", "not valid YAML"),
        ("seed=soon", "seed: Input should be a valid integer"),
    ],
)
def test_wrong_overrides(recipe: Path, override: str, message: str) -> None:
    assert message in wrong(recipe, override)


def test_all_errors_are_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: 'a/b'\nmethod: sft\nseed: x\ncolour: red\n")
    lines = wrong(path).splitlines()
    assert lines[0] == f"{path}: 4 errors"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["name", "base", "seed", "colour"]
    assert "base: is missing" in lines[2]
    allowed = "base, chat_template, data, description, engine, method, name, seed, settings, vllm"
    assert lines[4].endswith(f"unknown key; allowed are {allowed}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping of keys to values is expected, this is NoneType"),
        ("- a\n", "this is list"),
        ("a: [\n", "not valid YAML"),
        ("a: !!python/object:os.x\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert message in wrong(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "configuration file not found" in wrong(tmp_path / "gone.yaml")
    assert "this is a folder" in wrong(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    assert "not UTF-8" in wrong(tmp_path / "latin.yaml")


def test_configs_are_frozen() -> None:
    loaded = load_suite("tiny-mtbench")
    with pytest.raises(ValueError, match="frozen"):
        loaded.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("variable", ["sk-0123456789", "MY KEY", "1KEY", ""])
def test_a_key_in_place_of_its_variables_name_is_refused(variable: str) -> None:
    with pytest.raises(InputError, match="api_key_env"):
        validate({"name": "j", "kind": "openai", "model": "m", "api_key_env": variable}, OpenAIJudgeConfig, "j.yaml")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"samples": 5}, "`samples` needs `preference_from: samples`, which is logprobs"),
        ({"preference_from": "token", "samples": 5}, "which is token"),
        ({"preference_from": "samples", "samples": 1}, "greater than or equal to 2"),
        ({"preference_from": "samples", "temperature": 0}, "temperature above 0"),
        ({"preference_from": "guess"}, "'logprobs', 'choice', 'samples' or 'token'"),
        ({"temperature": 1.0, "send_temperature": False}, "leave one of them out"),
        ({"max_tokens_parameter": "max_new_tokens"}, "max_completion_tokens"),
        ({"extra_body": {"temperature": 0.3}}, "temperature has a key of its own"),
        ({"extra_body": {"stream": True, "n": 3}}, "stream is fixed by the protocol; n is `preference_from: samples`"),
        ({"extra_body": {"guided_choice": ["m", "M"]}}, "is what `preference_from` decides"),
        ({"extra_body": {"when": date(2026, 1, 1)}}, "extra_body"),
        ({"seed": -1}, "seed"),
        ({"logprobs": False}, "logprobs: unknown key"),
    ],
)
def test_settings_of_a_judge_that_do_not_fit_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        validate({"name": "j", "kind": "openai", "model": "m", **settings}, OpenAIJudgeConfig, "j.yaml")


def test_every_setting_of_a_judge_reaches_its_requests(tmp_path: Path) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text(
        "name: j\nkind: openai\nmodel: m\napi_key_env: null\nepoch: again\npreference_from: samples\nsamples: 3\nseed: "
        "7\nsend_temperature: false\n"
        "max_tokens: 900\nmax_tokens_parameter: max_completion_tokens\nextra_body: {reasoning_effort: low, provider: "
        "{order: [a, b]}}\n"
    )
    judge = open_judge(load_judge(str(path)))
    assert isinstance(judge, OpenAIJudge)
    assert judge.client.epoch == "again"
    assert judge.sampling.requests("token") == 3
    assert judge.sampling.body("token", 2) == {
        "max_completion_tokens": 900,
        "seed": 9,
        "reasoning_effort": "low",
        "provider": {"order": ["a", "b"]},
    }


def test_own_files_and_shipped_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nkind: replay\npath: judgments.jsonl\n")
    assert load_judge(str(path)).name == "mine"
    with pytest.raises(InputError, match=r"unknown judge 'mine': known are .*rubric.*NAME.yaml"):
        load_judge("mine")
    path.write_text("name: mine\nkind: oracle\n")
    with pytest.raises(InputError, match="does not match any of the expected tags"):
        load_judge(str(path))


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "a/b"])
def test_names_that_become_folders_stay_inside(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        validate(
            {
                "name": name,
                "base": "tinyworld",
                "seeds": [0],
                "suites": ["s"],
                "rows": [{"name": "a", "method": "sft"}],
            },
            MatrixConfig,
            "m.yaml",
        )


def test_a_recipe_may_be_overrides_alone() -> None:
    assert load_recipe("seed=4", ["name=other"]).model_dump(include={"name", "seed", "method"}) == {
        "name": "other",
        "seed": 4,
        "method": "seft",
    }
    with pytest.raises(InputError, match=r"unknown recipe 'tiny': known are .*tiny-base, .*tiny-seft, "):
        load_recipe("tiny")


def test_shipped_configs_are_found_by_their_stems() -> None:
    assert {"alpacaeval", "mtbench", "tiny-alpacaeval", "tiny-mtbench"} <= config.shipped("suites").keys()
    assert config.shipped("suites")["mtbench"].parent == config.config_folder() / "suites"


# Variants of MT-Bench

MTBENCH = (
    "kind: mtbench\nsource: official\ndefault_judge: mtbench-gpt4\nmax_new_tokens: 9\ndecodings: {official: "
    "{temperature: 0}}\ndescription: x\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mtbench\nreferences: corrected\n", "name must contain corrected"),
        ("name: mtbench\nparsing: strict\n", "name must contain strict"),
        ("name: mine\nmode: pairwise\nbaseline: a.jsonl\nparsing: strict\n", "name must contain pairwise and strict"),
        ("name: my-pairwise\nmode: pairwise\n", "mode: pairwise and baseline go together"),
        ("name: mine\nbaseline: a.jsonl\n", "baseline: for mode pairwise"),
    ],
)
def test_a_variant_is_named_and_whole(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text + MTBENCH)
    with pytest.raises(InputError, match=message):
        load_suite(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kind: mtbench", "kind: alpacaeval"), "parsing: for kind mtbench only"),
        (("source: official", "source: tinyworld"), "the tinyworld's is a rubric"),
    ],
)
def test_variants_belong_to_mtbench_and_a_language_model(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text("name: my-strict\nparsing: strict\n" + MTBENCH.replace(*change))
    with pytest.raises(InputError, match=message):
        load_suite(str(path))


def test_the_protocol_of_each_shipped_suite_of_mtbench() -> None:
    found = {name: load_suite(name).protocol for name in config.shipped("suites") if "mtbench" in name}
    assert found.pop("mtbench-pairwise") == "mtbench-pairwise"
    assert set(found.values()) == {"mtbench"}
    assert {"mtbench", "mtbench-corrected", "mtbench-strict", "tiny-mtbench"} <= set(found)


def test_a_recipe_is_laid_over_the_ones_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text("base: b\nsettings: {training: {precision: mixed}, policy: {max_steps: 9}}\n")
    (tmp_path / "big.yaml").write_text("seed: 3\nsettings: {policy: {learning_rate: 1.0e-6}}\n")
    (tmp_path / "own.yaml").write_text(
        "extends: [common.yaml, big.yaml]\nname: own\nmethod: dpo\nsettings: {policy: {epochs: 1}}\n"
    )
    recipe = load_recipe(str(tmp_path / "own.yaml"), ["settings.beta=0.01"])
    assert (recipe.base, recipe.seed, recipe.method) == ("b", 3, "dpo")
    assert recipe.settings == {
        "training": {"precision": "mixed"},
        "policy": {"learning_rate": 1e-6, "epochs": 1},  # epochs took the common max_steps away
        "beta": 0.01,
    }
    (tmp_path / "data.yaml").write_text(
        "extends: zephyr-7b-dpo-lora\nname: mine\n"
        "data: {preferences: {source: my.parquet}, calibration: {fraction: 0.1}}\n"
    )
    data = load_recipe(str(tmp_path / "data.yaml")).model_dump(mode="json", exclude_defaults=True)["data"]
    assert data["preferences"] == {"source": "my.parquet"}  # without the former's split and commit
    assert data["calibration"]["fraction"] == 0.1
    (tmp_path / "shipped.yaml").write_text("extends: tiny-seft\nname: mine\nseed: 7\n")
    assert load_recipe(str(tmp_path / "shipped.yaml")).method == "seft"


@pytest.mark.parametrize(
    ("extends", "says"),
    [
        ("[loop.yaml]", "extends itself"),
        ("[gone.yaml]", "configuration file not found"),
        ("nobody", "nobody"),
        ("{a: 1}", "extends names a recipe or a list of them"),
    ],
)
def test_what_cannot_be_extended_is_one_message(tmp_path: Path, extends: str, says: str) -> None:
    (tmp_path / "loop.yaml").write_text(f"extends: {extends}\nname: own\nmethod: dpo\nbase: b\n")
    with pytest.raises(InputError, match=says):
        load_recipe(str(tmp_path / "loop.yaml"))
