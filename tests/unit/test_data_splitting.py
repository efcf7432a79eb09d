"""One set for several roles: no prompt is in two of them, wherever its rows stand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from seft_bench.config import DataConfig, SourceConfig
from seft_bench.data.resolving import resolve
from seft_bench.data.splitting import prompt_place, shares
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl, write_jsonl
from seft_bench.records import Row

ROLES = ["preferences", "calibration", "prompts"]
SHARED = {"calibration": {"from": "preferences", "fraction": 0.1}, "prompts": {"from": "preferences", "fraction": 0.3}}


def pairs(count: int) -> list[Row]:
    """Pairs, of which every second prompt stands there again, in other letters and with another answer."""
    rows = [{"prompt": f"Question {n}?", "chosen": f"good {n}", "rejected": f"poor {n}"} for n in range(count)]
    return rows + [{**row, "prompt": row["prompt"].upper() + " ", "chosen": "other"} for row in rows[::2]]


def made(folder: Path, rows: list[Row], roles: list[str], **data: object) -> dict[str, list[Row]]:
    write_jsonl(folder / "pairs.jsonl", rows)
    config = DataConfig.model_validate({"preferences": str(folder / "pairs.jsonl"), **data})
    target = resolve(config, folder / "made", roles)
    return {role: read_jsonl(target / f"{role}.jsonl") for role in roles}


def asked(rows: list[Row]) -> set[str]:
    return {" ".join(row["prompt"][0]["content"].casefold().split()) for row in rows}


def test_no_prompt_is_shared_and_none_is_lost(tmp_path: Path) -> None:
    found = made(tmp_path, pairs(1000), ROLES, **SHARED)
    prompts = {role: asked(rows) for role, rows in found.items()}
    assert sum(map(len, prompts.values())) == len(set.union(*prompts.values())) == 1000
    assert sum(map(len, found.values())) == 1500
    # 100 and 300 of 1000 are expected; three standard deviations of a binomial are 28 and 43.
    assert abs(len(prompts["calibration"]) - 100) < 28
    assert abs(len(prompts["prompts"]) - 300) < 43
    assert {frozenset(row) for row in found["calibration"]} == {frozenset({"prompt", "chosen", "rejected"})}
    assert {frozenset(row) for row in found["prompts"]} == {frozenset({"prompt"})}


def test_a_prompt_stays_where_it_is_when_rows_move_or_come(tmp_path: Path) -> None:
    rows = pairs(200)
    before = made(tmp_path, rows, ROLES, **SHARED)
    random.Random(0).shuffle(rows)
    after = made(tmp_path, [*rows, *pairs(300)[200:300]], ROLES, **SHARED)
    for role in ROLES:
        assert asked(before[role]) <= asked(after[role])


def test_what_is_taken_away_is_gone_whichever_role_is_needed(tmp_path: Path) -> None:
    alone = made(tmp_path / "a", pairs(100), ["preferences"], **SHARED)["preferences"]
    together = made(tmp_path / "b", pairs(100), ROLES, **SHARED)["preferences"]
    assert alone == together
    assert len(alone) < 150


def test_rows_may_be_taken_without_being_taken_away(tmp_path: Path) -> None:
    found = made(tmp_path, pairs(10), ["preferences", "sft"], sft={"from": "preferences", "limit": 3})
    assert len(found["preferences"]) == 15
    assert found["sft"] == [
        {"prompt": [{"role": "user", "content": f"Question {n}?"}], "answer": f"good {n}"} for n in range(3)
    ]


def test_the_manifest_says_whose_rows_they_were(tmp_path: Path) -> None:
    found = made(tmp_path, pairs(100), ROLES, **SHARED, unpaired={"from": "preferences", "limit": 7})
    (path,) = (tmp_path / "made").glob("*/manifest.json")
    records = read_json(path)
    assert list(records) == sorted(ROLES)  # what is not needed is not made
    assert {role: record["rows"] for role, record in records.items()} == {role: len(found[role]) for role in ROLES}
    assert all(record["rows_read"] == 150 == record["rows"] + record["other_roles"] for record in records.values())
    assert "from" not in records["preferences"]
    assert records["calibration"]["from"] == "preferences"


def test_a_role_is_made_once_and_a_second_method_adds_its_own(tmp_path: Path) -> None:
    first = made(tmp_path, pairs(100), ["preferences"], **SHARED)
    (folder,) = (path.parent for path in (tmp_path / "made").glob("*/manifest.json"))
    (folder / "preferences.jsonl").write_text("kept as it is")
    write = DataConfig.model_validate({"preferences": str(tmp_path / "pairs.jsonl"), **SHARED})
    assert resolve(write, tmp_path / "made", ROLES) == folder
    assert (folder / "preferences.jsonl").read_text() == "kept as it is"
    assert len(read_jsonl(folder / "calibration.jsonl")) + len(first["preferences"]) < 150


def test_a_changed_source_is_made_anew(tmp_path: Path) -> None:
    assert len(made(tmp_path, pairs(10), ["preferences"])["preferences"]) == 15
    assert len(made(tmp_path, pairs(20), ["preferences"])["preferences"]) == 30
    assert len(list((tmp_path / "made").glob("*/manifest.json"))) == 2


def test_parts_lie_side_by_side_and_the_rest_is_the_base() -> None:
    laid = shares("preferences", {"prompts": 0.5, "calibration": 0.25})
    assert laid == {"calibration": (0.0, 0.25), "prompts": (0.25, 0.75), "preferences": (0.75, 1.0)}
    assert prompt_place([{"role": "user", "content": "A  b"}]) == prompt_place([{"role": "user", "content": "a B\n"}])
    assert prompt_place([{"role": "user", "content": "ab"}]) != prompt_place([{"role": "user", "content": "a b"}])


def test_parts_that_do_not_fit_are_refused() -> None:
    for wrong, message in (
        ({"prompts": {"from": "preferences", "fraction": 0.9}}, "fractions taken from preferences make 1"),
        ({"prompts": {"from": "calibration"}}, "prompts: from calibration, which must have a source of its own"),
        ({"prompts": {"from": "sft"}}, "prompts: from sft, which has no source"),
        ({"prompts": {"from": "preferences", "shape": "prompts"}}, "shape: rows `from` preferences are read as that"),
        ({"prompts": {"source": "x", "fraction": 0.5}}, "it needs `from`"),
        ({"prompts": {"source": "x", "from": "preferences"}}, "give either `source` or `from`"),
    ):
        with pytest.raises(ValueError, match=message):
            DataConfig.model_validate({"preferences": "x", "calibration": SHARED["calibration"], **wrong})


def test_a_source_is_dumped_as_it_was_given() -> None:
    given = {"preferences": {"source": "x"}, "calibration": SHARED["calibration"]}
    assert DataConfig.model_validate({**given, "preferences": "x"}).model_dump() == given
    assert SourceConfig.model_validate(SHARED["calibration"]).model_dump(mode="json") == SHARED["calibration"]


def test_a_role_from_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nothing of .*pairs\.jsonl can be used as calibration: no row is of its part"
    ):
        made(tmp_path, pairs(1), ["calibration"], calibration={"from": "preferences", "fraction": 1e-6})
