"""Published figures: a table of their own, what a file of them must say, and that they are never ranked."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.config import shipped
from seft_bench.errors import InputError
from seft_bench.report.leaderboard import plain_table, published_tables
from seft_bench.report.published_files import imported_sets, load_published
from seft_bench.report.render import RENDERERS, to_csv, to_json, to_markdown
from seft_bench.report.sheets import Sheets, plain_sheets
from seft_bench.report.tables import Cell, Column, Table, TableRow, stacked
from seft_bench.results import save_result
from tests.unit.leaderboard_data import result

SET = {
    "suite": "tiny-alpacaeval",
    "base": "Some-7B",
    "judge": "their judge",
    "conditions": "their data, their decoding",
    "source": "Somebody 2024",
    "date": "2024-05",
    "figures": [
        {"name": "low & first", "metrics": {"win_rate": 1.5}},
        {"name": "high", "metrics": {"win_rate": 99.5, "lc_win_rate": 98.0}},
    ],
}


def file_of(folder: Path, **changes: Any) -> str:
    path = folder / "figures.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "figures",
                "sets": [{key: value for key, value in {**SET, **changes}.items() if value is not None}],
            }
        )
    )
    return str(path)


@pytest.mark.parametrize("name", sorted(shipped("published")))
def test_every_shipped_file_loads_and_says_where_each_figure_comes_from(name: str) -> None:
    sets = load_published(name)
    assert all("arXiv" in item.source and item.judge and item.conditions for item in sets)
    for table in published_tables(sets):
        assert all(cell.footnote for row in table.rows for cell in row.cells[:1])


def test_they_stand_in_the_sources_order_without_rank_mark_or_interval(tmp_path: Path) -> None:
    (table,) = published_tables(load_published(file_of(tmp_path)))
    assert [row.cells[0].value for row in table.rows] == ["low & first", "high"]
    assert not any(cell.mark or cell.low is not None for row in table.rows for cell in row.cells)
    assert "conditions differ" in table.title
    assert {row.block for row in table.rows} == {"published, conditions differ: Some-7B, 2024-05"}
    assert table.footnotes == ("Judge: their judge; their data, their decoding; Source: Somebody 2024, 2024-05.",)


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_they_change_nothing_above_them(name: str, tmp_path: Path) -> None:
    results = [
        result("dpo", [0.2, 0.4, 0.6], suite="tiny-alpacaeval"),
        result("seft", [0.3, 0.4, 0.7], suite="tiny-alpacaeval"),
    ]
    alone, beside = Sheets(results), Sheets(results, published=load_published(file_of(tmp_path)))
    assert beside.measured() == alone.measured()
    text = beside.text(name)
    assert "99.5" in text
    assert "conditions differ" in text
    assert "99.5" not in alone.text(name)


def test_programs_get_them_in_the_same_columns_but_in_a_block_of_their_own(tmp_path: Path) -> None:
    results = [result("dpo", [0.2, 0.4, 0.6], suite="tiny-alpacaeval")]
    rows = list(csv.DictReader(io.StringIO(Sheets(results, published=load_published(file_of(tmp_path))).text("csv"))))
    assert [(row["model"], row["published"], row["rank"], row["win_rate"]) for row in rows] == [
        ("dpo-seed1/step-150", "", "1", "40.0"),
        ("", "low & first", "", "1.5"),
        ("", "high", "", "99.5"),
    ]
    assert [row["source"] for row in rows] == ["", "Somebody 2024", "Somebody 2024"]
    parsed = json.loads(Sheets(results, published=load_published(file_of(tmp_path))).text("json"))["rows"]
    assert parsed[1]["conditions"] == "their data, their decoding"
    assert "win_rate_mark" not in parsed[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": None}, "judge: is missing"),
        ({"source": None}, "source: is missing"),
        ({"conditions": ""}, "conditions"),
        ({"date": "last year"}, "date"),
        ({"figures": [{"name": "x", "metrics": {"elo": 1200}}]}, "elo"),
        ({"figures": [{"name": "x", "metrics": {}}]}, "metrics"),
        ({"ours": True}, "unknown key"),
    ],
)
def test_a_file_that_leaves_something_unsaid_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_published(file_of(tmp_path, **changes))


@pytest.mark.parametrize("text", ["2024", "2024-05", "2024-05-23", "'2024'"])
def test_dates_may_be_written_as_yaml_reads_them(text: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.yaml"
    path.write_text(Path(file_of(tmp_path)).read_text().replace("date: 2024-05", f"date: {text}"))
    assert load_published(str(path))[0].date == text.strip("'")


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(InputError, match="alignment-papers"):
        load_published("alignment-paper")


def test_an_imported_leaderboard_stands_below_the_measured_rows(tmp_path: Path) -> None:
    table = {
        "label": "published",
        "suite": "tiny-alpacaeval",
        "judge": "gpt4_turbo",
        "source": "board.csv",
        "imported_at": "2026-01-02T03:04:05+00:00",
        "figures": [{"model": "theirs", "win_rate": 50.0, "length_controlled_winrate": 48.5, "avg_length": None}],
    }
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "board.json").write_text(json.dumps(table))
    assert "theirs" in plain_sheets(tmp_path).text("md")
    save_result(tmp_path, result("dpo", [0.2, 0.4, 0.6], suite="tiny-alpacaeval"))
    text = plain_sheets(tmp_path).text("md")
    assert text.index("dpo-seed1") < text.index("Published figures for tiny-alpacaeval") < text.index("theirs")
    assert "imported from board.csv, 2026-01-02" in text
    (tmp_path / "published" / "board.json").write_text('{"figures": 3}')
    with pytest.raises(InputError, match=r"board\.json is no leaderboard"):
        imported_sets(tmp_path)


def test_stacked_tables_keep_every_cell_and_renumber_footnotes() -> None:
    first = Table(
        "a", (Column("x", "x"), Column("y", "y")), (TableRow((Cell("1", footnote=1), Cell("2"))),), footnotes=("one",)
    )
    second = Table(
        "b",
        (Column("z", "z"), Column("x", "x")),
        (TableRow((Cell("3", footnote=2), Cell("4", footnote=1)), "own"),),
        ("said",),
        ("two", "one"),
    )
    both = stacked([first, second])
    assert [column.key for column in both.columns] == ["x", "y", "z"]
    assert to_csv(both) == "block,x,y,z\n,1,2,\nown,4,,3\n"
    notes = json.loads(to_json(both))["rows"][1]
    assert (notes["z_note"], notes["x_note"]) == ("one", "two")
    assert to_markdown(stacked([first])) == to_markdown(first)
    assert plain_table([result("dpo", [5.0, 6.0])]) == stacked([plain_table([result("dpo", [5.0, 6.0])])])
