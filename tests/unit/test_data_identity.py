"""What a method reads is told by its stages, and every file of it is part of its identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.config import RecipeConfig
from seft_bench.data.training import open_data
from seft_bench.errors import InputError
from seft_bench.files import write_json, write_jsonl
from seft_bench.records import Base, Data
from seft_bench.stages.recipes import contents_of, needed_data
from seft_bench.stages.runs import finished_run
from training.methods import METHODS, ChosenSettings, Method
from training.stages import Shape, Stage, Train


@pytest.fixture
def own_method(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that reads a data set which no shipped method need know."""

    def stages(settings: ChosenSettings, checkpoints: int) -> list[Stage]:
        return [Train("own", Base(), Data("unpaired"), Shape("answers"), settings.policy, checkpoints=checkpoints)]

    monkeypatch.setitem(METHODS, "own", Method(ChosenSettings, stages, "reads unpaired answers"))
    return "own"


def recipe(method: str, folder: Path, **settings: object) -> RecipeConfig:
    return RecipeConfig(name="r", method=method, base="tinyworld", data=str(folder), settings=settings)


def test_the_data_that_a_recipe_needs_follows_from_its_stages(tmp_path: Path, own_method: str) -> None:
    assert needed_data(recipe("orpo", tmp_path)) == ["preferences"]
    assert needed_data(recipe("orpo", tmp_path, init="start")) == ["sft", "preferences"]
    assert needed_data(recipe(own_method, tmp_path)) == ["unpaired"]


def test_files_that_a_method_does_not_read_are_neither_demanded_nor_its_identity(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "preferences.jsonl", [{"prompt": "p", "chosen": "c", "rejected": "r"}])
    orpo = recipe("orpo", tmp_path)
    made = open_data(str(tmp_path), 0, tmp_path / "made", needed_data(orpo))
    assert [path.name for path in made.glob("*.jsonl")] == ["preferences.jsonl"]
    before = contents_of(orpo)
    assert list(before) == ["data/preferences"]
    write_jsonl(tmp_path / "sft.jsonl", [{"prompt": "p", "answer": "a"}])
    assert contents_of(orpo) == before
    with pytest.raises(InputError, match=r"lacks prompts\.jsonl, calibration\.jsonl"):
        open_data(str(tmp_path), 0, tmp_path, needed_data(recipe("seft", tmp_path)))


def test_a_changed_file_of_any_name_makes_another_run(tmp_path: Path, own_method: str) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    write_jsonl(data / "unpaired.jsonl", [{"prompt": "p", "answer": "a", "label": True}])
    asked = recipe(own_method, data)
    published = {"config": asked.as_row(), "parents": contents_of(asked), "checkpoints": ["step-000001"]}
    write_json(out / "manifest.json", published)
    assert finished_run(asked, out, 1) is not None
    write_jsonl(data / "unpaired.jsonl", [{"prompt": "p", "answer": "another", "label": True}])
    with pytest.raises(InputError, match="whose data/unpaired held something else"):
        finished_run(asked, out, 1)


def test_a_run_that_knew_its_data_only_as_a_whole_is_not_taken_for_a_new_one(tmp_path: Path, own_method: str) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    write_jsonl(data / "unpaired.jsonl", [{"prompt": "p", "answer": "a", "label": True}])
    asked = recipe(own_method, data)
    old = {"config": asked.as_row(), "parents": {"data": "0" * 64}, "checkpoints": ["step-000001"]}
    write_json(out / "manifest.json", old)
    with pytest.raises(InputError, match="whose data/unpaired held something else"):
        finished_run(asked, out, 1)
