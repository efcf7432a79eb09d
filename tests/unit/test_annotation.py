"""How much of the tinyworld is annotated, as settings of its data: rows, identities, and what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from seft_bench.bench.matrix import cells_of
from seft_bench.config import (
    TASK_TYPES,
    MatrixConfig,
    RecipeConfig,
    TinyworldConfig,
    data_label,
    data_row,
)
from seft_bench.data.training import check_data, content_hashes, data_record, open_base, open_data
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, sha256_file
from seft_bench.records import Row
from seft_bench.stages.recipes import load_recipe
from seft_bench.tinyworld import world
from seft_bench.tinyworld.data_sets import Annotation, annotated_questions, pretraining_rows
from seft_bench.tinyworld.tasks import TASKS
from tests.integration.cli import good, seft_bench

DATA_SETS = ("sft", "preferences", "calibration", "prompts")


def settings(**given: Any) -> TinyworldConfig:
    return TinyworldConfig.model_validate({"tinyworld": given})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for data sets, of which each is written once."""
    return tmp_path_factory.mktemp("worlds")


def rows(folder: Path, data: str | TinyworldConfig, seed: int = 0) -> dict[str, list[Row]]:
    found = open_data(data, seed, folder, DATA_SETS)
    return {name: [dict(row) for row in read_jsonl(found / f"{name}.jsonl", name)] for name in DATA_SETS}


def first_turns(found: list[Row]) -> list[str]:
    return [row["prompt"][0]["content"] for row in found]


def asked(found: list[Row]) -> list[Row]:
    return [{"prompt": row["prompt"], "task": row["task"]} for row in found]


def test_the_settings_know_the_worlds_task_types() -> None:
    assert list(TASKS) == list(TASK_TYPES)


def test_without_a_word_the_data_are_the_worlds_own(made: Path) -> None:
    assert open_data(settings(), 0, made, DATA_SETS) == open_data("tinyworld", 0, made, DATA_SETS)
    five = settings(annotated_types=list(world.ANNOTATED_TASKS), prompts=2400)
    assert rows(made, five) == rows(made, "tinyworld")


@pytest.mark.parametrize("types", [["note"], ["kind", "compare"]])
def test_of_the_five_types_those_annotated_keep_the_rows_that_they_have(made: Path, types: list[str]) -> None:
    few, whole = rows(made, settings(annotated_types=types)), rows(made, "tinyworld")
    for name in ("sft", "preferences", "calibration"):
        assert few[name] == [row for row in whole[name] if row["task"] in types], name
    assert 130 * len(types) <= len(few["preferences"]) <= 175 * len(types)
    assert asked(few["prompts"]) == asked(whole["prompts"])
    assert {row["task"] for row in few["prompts"] if row["annotated"]} == set(types)


def test_fewer_prompts_are_the_first_of_more(made: Path) -> None:
    many = rows(made, settings(prompts=9600))
    for few in (600, 2400):
        assert rows(made, settings(prompts=few))["prompts"] == many["prompts"][:few]
    counts = Counter(row["task"] for row in many["prompts"])
    assert sum(counts.values()) == 9600
    # Even but for `compare`, of whose 1,740 questions many are taken already.
    assert set(counts) == set(TASKS)
    assert counts.pop("compare") > 400
    assert min(counts.values()) > 0.85 * max(counts.values())


@pytest.mark.parametrize(
    "given",
    [
        {"annotated_types": "all", "prompts": 9600},
        {"annotated_types": ["slogan"], "pairs": 600, "prompts": 600},
        {"annotated_types": ["compare"], "pairs": 300, "sft": 100, "calibration": 100, "prompts": 600},
    ],
)
def test_no_question_of_a_suite_and_no_prompt_twice(made: Path, given: Row) -> None:
    found = rows(made, settings(**given), seed=206)
    turns = [text for name in DATA_SETS for text in first_turns(found[name])]
    assert not set(turns) & world.reserved_first_turns()
    assert len(turns) == len(set(turns))


def test_amounts_are_of_the_annotated_types_and_keep_their_proportion(made: Path) -> None:
    found = rows(made, settings(annotated_types=["note", "slogan"], pairs=400, calibration=20))
    assert {name: len(found[name]) for name in DATA_SETS} == {
        "sft": 150, "preferences": 400, "calibration": 20, "prompts": 2400
    }  # fmt: skip
    assert {row["task"] for name in DATA_SETS[:3] for row in found[name]} == {"note", "slogan"}


def test_all_types_have_as_many_rows_each_as_the_five(made: Path) -> None:
    found = rows(made, settings(annotated_types="all", prompts=9600), seed=206)
    assert len(found["preferences"]) == 16 * 160
    assert set(Counter(row["task"] for row in found["preferences"])) == set(TASKS)
    assert all(row["annotated"] for row in found["prompts"])


def test_seeds_differ_and_repeat(made: Path, tmp_path: Path) -> None:
    given = settings(annotated_types=["note"])
    for seed, folder in ((0, tmp_path / "again"), (1, tmp_path / "other")):
        found = open_data(given, seed, folder, ["preferences"]) / "preferences.jsonl"
        assert (list(read_jsonl(found, "pairs")) == rows(made, given)["preferences"]) is (seed == 0)


def test_the_text_without_threads_is_the_text_up_to_the_first_answers() -> None:
    pairs = list(zip(pretraining_rows(600), pretraining_rows(600, threads=False), strict=True))
    cut = [(row["text"], short["text"]) for row, short in pairs if row != short]
    assert 250 < len(cut) < 350  # every second document is a thread
    assert all(text.startswith(f"{short}<|end|><|user|>") for text, short in cut)
    assert not [short for _, short in cut if any(reply in short for reply in ("improve", "better"))]


# Names and identities


def test_what_it_says_is_its_name_and_its_identity() -> None:
    one = settings(annotated_types=["kind", "note"], prompts=9600)
    other = settings(annotated_types=["note", "kind", "note"], prompts=9600)
    assert data_row(one) == data_row(other) == {"tinyworld": {"annotated_types": ["note", "kind"], "prompts": 9600}}
    assert data_label(one) == "note-kind-9600-prompts"
    assert data_label(settings(annotated_types=list(TASK_TYPES), pairs=800, sft=9, calibration=8, threads=False)) == (
        "all-types-800-pairs-9-sft-8-calibration-no-threads"
    )
    assert data_row(settings(annotated_types=list(TASK_TYPES))) == {"tinyworld": {"annotated_types": "all"}}
    recipe = load_recipe("data.tinyworld.annotated_types=[note]")
    assert recipe.as_row()["data"] == {"tinyworld": {"annotated_types": ["note"]}}
    assert RecipeConfig.model_validate(recipe.as_row()) == recipe


def test_the_manifest_says_what_was_asked_for(made: Path) -> None:
    data = settings(annotated_types=["note"])
    record = data_record(data, open_data(data, 0, made, ["sft"]), ["sft"])
    assert record["sft"]["source"] == {"tinyworld": {"annotated_types": ["note"]}}
    assert data_record("tinyworld", open_data("tinyworld", 0, made, ["sft"]), ["sft"])["sft"]["source"] == "tinyworld"


def matrix(*data: Any) -> MatrixConfig:
    row = {"name": "start", "method": "sft", "role": "start"}
    return MatrixConfig.model_validate(
        {"name": "m", "base": "tinyworld", "data": list(data), "seeds": [0], "suites": ["tiny-mtbench"], "rows": [row]}
    )


def test_several_in_one_matrix_have_short_names() -> None:
    found = matrix(
        "tinyworld",
        {"tinyworld": {"annotated_types": ["note"]}},
        {"tinyworld": {"annotated_types": ["note"], "prompts": 600}},
        {"tinyworld": {"annotated_types": "all"}, "name": "sixteen"},
    )
    assert [cell.name for cell in cells_of(found)] == [
        "tinyworld-start-seed0", "note-start-seed0", "note-600-prompts-start-seed0", "sixteen-start-seed0"
    ]  # fmt: skip
    assert MatrixConfig.model_validate(found.as_row()) == found
    with pytest.raises(Exception, match="`data` holds something twice: note, note"):
        matrix(
            {"tinyworld": {"annotated_types": ["note"]}}, {"tinyworld": {"annotated_types": ["note"], "pairs": None}}
        )


def test_a_recipe_laid_over_another_replaces_data_of_another_kind(tmp_path: Path) -> None:
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    base = "method: sft\nbase: tinyworld\n"
    below.write_text(f"name: below\n{base}data: {{sft: x.jsonl}}\n")
    above.write_text("name: above\nextends: below.yaml\ndata: {tinyworld: {annotated_types: [note]}}\n")
    assert load_recipe(str(above)).data == settings(annotated_types=["note"])
    below.write_text(f"name: below\n{base}data: {{tinyworld: {{prompts: 600}}}}\n")
    assert load_recipe(str(above)).data == settings(annotated_types=["note"], prompts=600)


def test_the_second_base_differs_from_the_first_in_its_weights_alone() -> None:
    first, second = open_base("tinyworld"), open_base("tinyworld-no-threads")
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    weights = [sha256_file(folder / "model.safetensors")[:16] for folder in (first, second)]
    assert weights == ["45e556598f29075d", "d70506cac13494b6"]


def test_a_folder_of_a_bases_name_does_not_stand_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(open_base("tinyworld"), tmp_path / "tinyworld-no-threads")
    monkeypatch.chdir(tmp_path)
    assert open_base("tinyworld-no-threads").name == "base-no-threads"
    assert content_hashes("tinyworld-no-threads", "tinyworld", ["sft"]) == {}


# Refused


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("annotated_types=[nope]", ["annotated_types.0", "'note', 'slogan'", "'north'", "got 'nope'"]),
        ("annotated_types=[]", ["name at least one of note, slogan"]),
        ("annotated=[note]", ["annotated: unknown key; allowed are annotated_types, calibration, pairs"]),
        ("prompts=0", ["prompts: Input should be greater than 0"]),
    ],
)
def test_wrong_settings_are_refused_with_what_exists(given: str, says: list[str], tmp_path: Path) -> None:
    seen = seft_bench("data", "make", given, "--out", str(tmp_path / "made"))
    assert seen.status == 2
    for text in says:
        assert text in seen.err
    with pytest.raises(InputError, match=r"tiny-seft\.yaml: 1 error\n  data\.tinyworld\."):
        load_recipe(f"data.tinyworld.{given}")


def test_more_than_the_world_has_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    given = settings(annotated_types=["compare"], pairs=800)
    with pytest.raises(InputError, match=r"questions of compare are \d+, and 800 pairs \+ 300 sft \+ 150 calibration"):
        check_data(given, ["sft"])
    with pytest.raises(InputError, match="need 1250 different ones"):
        open_data(given, 0, tmp_path / "made", ["sft"])
    assert not (tmp_path / "made").exists()


def test_as_much_as_the_world_has_can_be_had(made: Path) -> None:
    """`compare` has 18 x 17 pairs of the narrow numbers in two templates, less those that suites ask."""
    there = annotated_questions(["compare"])
    assert 18 * 17 * 2 - 40 <= there < 18 * 17 * 2
    sft = there - 20
    found = rows(made, settings(annotated_types=["compare"], pairs=10, calibration=10, sft=sft))
    assert len(found["sft"]) == sft
    assert annotated_questions(Annotation().types) > 100_000


def test_a_command_writes_them(tmp_path: Path) -> None:
    seen = good(seft_bench("data", "make", "annotated_types=[note]", "--out", str(tmp_path), "--only", "sft"))
    folder = Path(seen.out.strip())
    assert folder.name == "tinyworld-v1-note-seed0"
    assert {row["task"] for row in read_jsonl(folder / "sft.jsonl", "sft")} == {"note"}
