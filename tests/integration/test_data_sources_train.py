"""A recipe that names a source for each role: trained on, recorded, and known again by what the sources hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.files import read_json, read_jsonl
from tests.integration.cli import seft_bench
from tests.tiny_model import make_tiny_model

WORDS = "river lake fish bird stone tree cloud road house light".split()
PAIRS = [
    {"question": f"Name a {word}, number {number}.", "good": f"The {word}.", "bad": f"um, a {word}"}
    for number, word in enumerate(WORDS * 2)
]
COLUMNS = {"prompt": "question", "chosen": "good", "rejected": "bad"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a model and pairs in a shape that is not ours."""
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "model")
    write_pairs(tmp_path)
    return tmp_path


def write_pairs(folder: Path, **changed: str) -> None:
    rows = [{**PAIRS[0], **changed}, *PAIRS[1:]]
    (folder / "pairs.json").write_text(json.dumps(rows))


def write_recipe(folder: Path, **values: Any) -> str:
    data = {"preferences": {"source": "pairs.json", "columns": COLUMNS}}
    recipe = {"name": "r", "method": "orpo", "base": "./model", "data": data, "settings": {"policy": {"max_steps": 1}}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **values}))
    return "recipe.yaml"


def test_a_recipe_trains_on_its_sources_and_says_what_they_held(folder: Path) -> None:
    seen = seft_bench("train", write_recipe(folder))
    assert seen.status == 0, seen.err
    assert "data: 20 rows of preferences from pairs.json (preference)" in seen.err
    manifest = read_json(folder / "runs" / "r" / "manifest.json")
    record = manifest["data"]["preferences"]
    assert {key: record[key] for key in ("source", "shape", "rows_read", "rows", "left_out")} == {
        "source": "pairs.json",
        "shape": "preference",
        "rows_read": 20,
        "rows": 20,
        "left_out": {},
    }
    (made,) = (folder / "runs" / "r" / "data").glob("*/preferences.jsonl")
    prompt = [{"role": "user", "content": PAIRS[0]["question"]}]
    assert read_jsonl(made)[0] == {"prompt": prompt, "chosen": "The river.", "rejected": "um, a river"}
    assert seft_bench("train", "recipe.yaml").status == 0  # finished: it is returned at once


def test_a_changed_source_is_another_run(folder: Path) -> None:
    recipe = write_recipe(folder)
    assert seft_bench("train", recipe).status == 0
    write_pairs(folder, good="The Danube.")
    refused = seft_bench("train", recipe)
    assert refused.status == 2
    assert "holds a run whose data/preferences held something else" in refused.err
    again = seft_bench("train", recipe, "--out", "runs/second")
    assert again.status == 0, again.err
    (made,) = (folder / "runs" / "second" / "data").glob("*/preferences.jsonl")
    assert read_jsonl(made)[0]["chosen"] == "The Danube."


def test_what_is_wrong_with_the_data_is_said_before_anything_is_trained(folder: Path) -> None:
    write_pairs(folder, bad=7)  # type: ignore[arg-type]
    wrong = seft_bench("train", write_recipe(folder))
    assert wrong.status == 2
    assert "data source pairs.json, index 0: 'rejected' must be text or a list of messages" in wrong.err
    assert not list((folder / "runs" / "r").glob("stages/*-*"))
    lacking = seft_bench("train", write_recipe(folder, method="dpo"))
    assert lacking.status == 2
    assert "the method reads sft, and no source is given for it (given are: preferences)" in lacking.err
    missing = seft_bench("train", write_recipe(folder, data={"preferences": "none.json"}))
    assert missing.status == 2
    assert "data source 'none.json': there is no such file or folder" in missing.err


def test_a_matrix_may_name_sources(folder: Path) -> None:
    data = [
        {"name": "all", "preferences": {"source": "pairs.json", "columns": COLUMNS}},
        {"name": "few", "preferences": {"source": "pairs.json", "columns": COLUMNS, "limit": 4}},
    ]
    row = {"name": "orpo", "method": "orpo", "settings": {"policy": {"max_steps": 1}}}
    matrix = {"name": "m", "base": "./model", "data": data, "seeds": [0], "suites": ["tiny-mtbench"], "rows": [row]}
    (folder / "m.yaml").write_text(yaml.safe_dump(matrix))
    planned = seft_bench("bench", "m.yaml", "--dry-run", "--json")
    assert planned.status == 0, planned.err
    cells = {cell["cell"]: cell["data"] for cell in json.loads(planned.out)["cells"]}
    assert list(cells) == ["all-orpo-seed0", "few-orpo-seed0"]
    assert cells["few-orpo-seed0"]["preferences"]["limit"] == 4
