"""`bench` beyond one base and judge: the plan and its parts, failures, several bases, data and judges, the probe."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from seft_bench.bench.executors.local import gpu_shares
from seft_bench.bench.matrix import cells_of, results_of
from seft_bench.bench.probe_cell import straight_line
from seft_bench.config import MatrixConfig, load_matrix
from seft_bench.data.training import open_base
from seft_bench.errors import InputError
from seft_bench.results import read_results
from tests import small_matrix
from tests.integration.cli import good, seft_bench


def plan(matrix: str, out: Path, *options: str) -> dict[str, Any]:
    seen = seft_bench("bench", matrix, "--out", str(out), "--dry-run", "--json", *options)
    assert seen.status == 0, seen.err
    found: dict[str, Any] = json.loads(seen.out)
    return found


@pytest.fixture(scope="module")
def two_bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bases of the same weights x two judges, one seed: what differs between the bases is the name alone."""
    folder = tmp_path_factory.mktemp("bases")
    for name in ("left", "right"):
        shutil.copytree(open_base("tinyworld"), folder / name)
    bases = [str(folder / "left"), str(folder / "right")]
    judges = ["rubric", "rubric-length-biased"]
    matrix = small_matrix.write_matrix(folder, base=None, bases=bases, judges=judges, seeds=[0])
    good(small_matrix.run_here(matrix, folder / "out"))
    return folder


def test_bases_and_judges_are_kept_apart(two_bases: Path) -> None:
    results = read_results(two_bases / "out" / "results")
    assert {result.model for result in results} == {
        f"{base}-{row}-seed0/step-000004" for base in ("left", "right") for row in ("start", "chosen")
    }
    assert len({result.judge_id for result in results}) == 2
    assert len(results) == 2 * 2 * 2
    page = (two_bases / "out" / "results" / "leaderboard.md").read_text()
    assert "start (left)" in page
    assert "start (right)" in page
    rows = json.loads((two_bases / "out" / "results" / "leaderboard.json").read_text())
    assert len(json.dumps(rows).split("(left)")) == len(json.dumps(rows).split("(right)"))
    findings = (two_bases / "out" / "results" / "findings.md").read_text()
    assert findings.count("- left: ") == findings.count("- right: ") > 0
    assert findings.count("judge rubric-length-biased-") > 0
    assert "](curves-left.png)" in findings
    assert {path.name for path in (two_bases / "out" / "results").glob("*.png")} == {
        "cost-left.png",
        "cost-right.png",
        "curves-left.png",
        "curves-right.png",
    }


def test_differences_are_taken_to_the_start_on_the_same_base(two_bases: Path) -> None:
    """The bases hold the same weights, so the differences must be equal, and no start has one."""
    from seft_bench.report.leaderboard import method_table

    table = method_table(
        results_of(load_matrix(str(two_bases / "small.yaml")), {"few"}, read_results(two_bases / "out" / "results"))
    )
    column = next(index for index, column in enumerate(table.columns) if column.kind == "difference")
    differences = {str(row.cells[0].value): row.cells[column].value for row in table.rows}
    assert differences["chosen (left)"] == differences["chosen (right)"]
    assert differences["chosen (left)"] is not None
    assert differences["start (left)"] is differences["start (right)"] is None


def test_stages_of_two_equal_bases_are_trained_for_both(two_bases: Path) -> None:
    """A stage is named by what it starts from, and both bases hold the same: it is trained once."""
    assert len(list((two_bases / "out").glob("stages/start-*"))) == 1


def test_the_plan_says_what_is_there_of_each_part(two_bases: Path) -> None:
    found = plan(str(two_bases / "small.yaml"), two_bases / "out")
    assert {cell["state"] for cell in found["cells"]} == {"finished"}
    assert found["to_run"] == []
    elsewhere = plan(str(two_bases / "small.yaml"), two_bases / "out", "--results", str(two_bases / "none"))
    assert len(elsewhere["to_run"]) == 4
    for cell in elsewhere["cells"]:
        assert cell["state"] == "to run"
        assert cell["trained"]
        assert cell["answers"] == {"at_hand": 4, "wanted": 4}
        assert cell["verdicts"] == {judge: {"at_hand": 8, "wanted": 8} for judge in ("rubric", "rubric-length-biased")}
    assert not (two_bases / "none").exists()


def test_a_new_judge_asks_for_verdicts_only(two_bases: Path, tmp_path: Path) -> None:
    bases = [str(two_bases / "left"), str(two_bases / "right")]
    matrix = small_matrix.write_matrix(tmp_path, base=None, bases=bases, judges=["rubric-length-biased"], seeds=[0])
    state = plan(matrix, two_bases / "out")["cells"][0]
    assert (state["state"], state["trained"], state["answers"]["at_hand"]) == ("to run", True, 4)


def test_several_data_sets(tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "sft.jsonl").write_text('{"prompt": [{"role": "user", "content": "q"}], "answer": "a"}\n' * 8)
    start = {"method": "sft", "role": "start", "settings": {"start": {"max_steps": 2}}}
    rows = [{"name": "start", **start}, {"name": "more", **start, "role": "method", "data": ["tinyworld"]}]
    rows += [
        {
            "name": "longer",
            "method": "sft",
            "settings": {"start": {"max_steps": 3}},
            "data": ["tinyworld", "note-600-prompts"],
        }
    ]
    data = ["tinyworld", {"tinyworld": {"annotated_types": ["note"], "prompts": 600}}, str(own)]
    compare = {"row": "longer", "with": ["start"]}
    matrix = small_matrix.write_matrix(tmp_path, data=data, seeds=[0], rows=rows, compare=compare)
    seen = good(small_matrix.run_here(matrix, tmp_path / "out"))
    names = {result.model.partition("/")[0] for result in read_results(tmp_path / "out" / "results")}
    starts = {"tinyworld-start-seed0", "note-600-prompts-start-seed0", "mine-start-seed0"}
    assert names == {*starts, "tinyworld-more-seed0", "tinyworld-longer-seed0", "note-600-prompts-longer-seed0"}
    assert "No final result yet" not in (tmp_path / "out" / "results" / "leaderboard.md").read_text()
    # Of the four questions two are of the world's five annotated types, and one of these is a note.
    table = (tmp_path / "out" / "results" / "annotation.csv").read_text()
    assert "annotation.csv" in seen.err
    lines = [line.split(",")[3:7] for line in table.splitlines()[1:]]
    assert [line for line in lines if line[1] != "longer"] == [
        ["tinyworld", "start", "annotated", "2"],
        ["tinyworld", "more", "annotated", "2"],
        ["tinyworld", "start", "never annotated", "2"],
        ["tinyworld", "more", "never annotated", "2"],
        ["note-600-prompts", "start", "annotated", "1"],
        ["note-600-prompts", "start", "never annotated", "3"],
    ]
    study = list(csv.DictReader((tmp_path / "out" / "results" / "study.csv").open()))
    assert [(line["pool"], line["method"], line["against"], line["questions"]) for line in study] == [
        (pool, "longer", "start", questions)
        for pool, parts in (
            ("1 annotated type, 600 prompts (1 data set)", "413"),
            ("5 annotated types (1 data set)", "422"),
        )
        for questions in parts
    ]
    assert "study.md" in seen.err


def test_only_some_cells_then_only_the_failed(tmp_path: Path) -> None:
    """A row that asks for more prompts than there are fails; --retry-failed leaves alone what was never tried."""
    few = {"start": {"max_steps": 2}}
    broken = {
        "name": "broken",
        "method": "seft",
        "settings": {**few, "decision": "never", "prompts": 99999, "policy": {"max_steps": 2}},
    }
    matrix = small_matrix.write_matrix(
        tmp_path, rows=[{"name": "start", "method": "sft", "role": "start", "settings": few}, broken]
    )
    out = tmp_path / "out"
    good(small_matrix.run_here(matrix, out, "--only", "broken-*", "--only", "start-seed0"), status=1)
    found = plan(matrix, out)
    assert {cell["cell"]: cell["state"] for cell in found["cells"]} == {
        "start-seed0": "finished", "broken-seed0": "failed", "start-seed1": "to run", "broken-seed1": "failed"
    }  # fmt: skip
    assert all("99999 are asked for" in cell["error"] for cell in found["cells"] if cell["state"] == "failed")
    assert found["to_run"] == ["broken-seed0", "start-seed1", "broken-seed1"]
    assert plan(matrix, out, "--retry-failed")["to_run"] == ["broken-seed0", "broken-seed1"]
    assert (
        "broken-seed0 failed: prompts: 99999 are asked for"
        in seft_bench("bench", matrix, "--out", str(out), "--dry-run").out
    )
    seen = seft_bench("bench", matrix, "--out", str(out), "--only", "chosen-*", "--dry-run")
    assert seen.status == 2
    assert "--only 'chosen-*' matches no cell. The cells: start-seed0" in seen.err


def test_the_error_is_gone_when_the_cell_is_done(tmp_path: Path) -> None:
    rows = [{"name": "start", "method": "sft", "role": "start", "settings": {"start": {"max_steps": 2}}}]
    matrix = small_matrix.write_matrix(tmp_path, seeds=[0], rows=rows)
    error = tmp_path / "out" / "cells" / "start-seed0" / "error.txt"
    error.parent.mkdir(parents=True)
    error.write_text("the disk was full")
    done = good(small_matrix.run_here(matrix, tmp_path / "out", "--retry-failed"))
    assert "[1/1] start-seed0 done" in done.err
    assert not error.exists()


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The hours of a short row, of one with forty times its steps, and of one that cannot be trained."""
    folder = tmp_path_factory.mktemp("probed")
    rows = [
        {"name": "short", "method": "sft", "settings": {"start": {"max_steps": 100}}},
        {"name": "long", "method": "sft", "settings": {"start": {"max_steps": 4000}}},
        {"name": "wild", "method": "sft", "settings": {"start": {"max_steps": 100, "learning_rate": 1e30}}},
    ]
    found: dict[str, Any] = plan(small_matrix.write_matrix(folder, rows=rows), folder / "out", "--probe")["hours"]
    assert not (folder / "out" / ".probe").exists()
    return found


def test_hours_by_a_probe(probed: dict[str, Any]) -> None:
    """The steps must show: in the row's hours, and in the total over two seeds."""
    assert probed["rows"]["long"] > 4 * probed["rows"]["short"] > 0
    assert probed["training_hours"] == pytest.approx(2 * sum(probed["rows"].values()))
    assert probed["total_hours"] > probed["training_hours"]
    assert probed["tokens"] > 0


def test_a_row_that_cannot_be_trained_does_not_cost_the_others_their_hours(probed: dict[str, Any]) -> None:
    assert set(probed["failed"]) == {"wild"}
    assert set(probed["rows"]) == {"short", "long"}
    assert probed["total_hours"] > 0


def test_a_straight_line_through_two_sizes() -> None:
    assert straight_line((1, 12.0), (2, 14.0), 10) == 30.0
    assert straight_line((4, 1.0), (4, 1.0), 4) == 1.0
    assert straight_line((1, 5.0), (2, 4.0), 10) == 20.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": None}, "give either `base` or `bases`"),
        ({"bases": ["tinyworld"]}, "give either `base` or `bases`"),
        ({"judge": "rubric", "judges": ["rubric"]}, "not both"),
        ({"judges": ["rubric", "rubric"]}, "holds something twice"),
        ({"data": []}, "`data` is an empty list"),
        ({"rows": [{"name": "a", "method": "sft"}] * 2}, "two rows have one name"),
        ({"rows": [{"name": "a", "method": "sft", "data": ["there"]}]}, "row 'a': no data set of the matrix is called"),
        (
            {"data": ["tinyworld", "mine"], "rows": [{"name": "a", "method": "sft", "data": ["mine"]}]},
            "no row runs on tinyworld",
        ),
    ],
)
def test_a_matrix_that_contradicts_itself(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_matrix(small_matrix.write_matrix(tmp_path, **changes))


def test_two_bases_of_one_name_are_refused() -> None:
    rows = [{"name": "start", "method": "sft"}]
    matrix = MatrixConfig.model_validate(
        {"name": "m", "bases": ["/a/model", "/b/model"], "seeds": [0], "suites": ["tiny-mtbench"], "rows": rows}
    )
    with pytest.raises(InputError, match="the same last part"):
        cells_of(matrix)


def test_a_matrix_of_one_base_is_written_down_as_before() -> None:
    values = load_matrix("tinyworld").as_row()
    assert not {"bases", "judges", "cpus_per_cell", "gpus_per_cell"} & values.keys()
    assert MatrixConfig.model_validate(values) == load_matrix("tinyworld")


# Executors


@pytest.mark.parametrize(
    ("workers", "gpus", "per_cell", "shares"),
    [
        (3, ["0", "1"], None, ["0", "1", "0"]),
        (2, ["4", "5", "6", "7"], 2, ["4,5", "6,7"]),
        (2, [], None, [None, None]),
        (2, ["0"], 0, ["", ""]),
        (2, ["0", "1"], 0.5, ["0", "1"]),
    ],
)
def test_gpus_are_shared_out_round_robin(
    workers: int, gpus: list[str], per_cell: float | None, shares: list[str | None]
) -> None:
    assert gpu_shares(workers, gpus, per_cell) == shares


def test_more_gpus_than_there_are() -> None:
    with pytest.raises(InputError, match="wants 2 GPUs and this machine has 1"):
        gpu_shares(1, ["0"], 2)


def test_an_unknown_executor_and_a_missing_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = small_matrix.write_matrix(tmp_path)
    for options in ([], ["--dry-run"]):
        seen = seft_bench("bench", matrix, "--out", str(tmp_path / "out"), "--executor", "slurm", *options)
        assert seen.status == 2
        assert "unknown executor 'slurm': known are local, ray" in seen.err
    monkeypatch.setitem(sys.modules, "ray", None)
    seen = seft_bench("bench", matrix, "--out", str(tmp_path / "out"), "--executor", "ray")
    assert seen.status == 2
    assert 'pip install "seft-bench[ray]"' in seen.err
    assert not (tmp_path / "out" / "cells").exists()


def test_the_former_name_of_the_option_still_works_and_says_so(tmp_path: Path) -> None:
    matrix = small_matrix.write_matrix(tmp_path)
    seen = seft_bench("bench", matrix, "--out", str(tmp_path / "out"), "--engine", "local", "--dry-run")
    assert seen.status == 0
    assert "--engine of `seft-bench bench` is now called --executor" in seen.err
    assert "unknown executor 'slurm'" in seft_bench("bench", matrix, "--engine", "slurm").err
    assert "--executor" not in seft_bench("bench", matrix, "--executor", "local", "--dry-run").err
    assert "--engine" not in seft_bench("bench", "--help").out
