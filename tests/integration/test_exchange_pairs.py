"""FastChat's pairwise files: exported comparisons come back to the byte, with the figures that they went out with."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.evaluation.score_files import result_row, score_files
from tests.faults.chat_server import serving
from tests.integration.cli import good, seft_bench
from tests.pairwise_files import (
    FAILED,
    FOLDER,
    FORMAT,
    KINDS,
    TEMPLATES,
    answers,
    evaluate_pairs,
    for_mine,
    judged_pairs,
    replying,
)

pytestmark = pytest.mark.usefixtures("pairwise_files")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_export_import_export_is_byte_identical(desk: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status = 5 if kind == "with-failures" else 0
    answers, judgments = judged_pairs(("org/model", "second"), KINDS[kind])
    files = ("--answers", str(answers), "--judgments", str(judgments))
    seen = good(seft_bench("export", *FORMAT, "little.yaml", *files, "--out", "first"), status)
    own = {result.model: result_row(result) for result in score_files("little.yaml", answers, judgments)}
    (desk / "elsewhere").mkdir()
    monkeypatch.chdir(desk / "elsewhere")
    back = json.loads(good(seft_bench("import", str(desk / "first"), *FORMAT, "../little.yaml", "--json"), status).out)
    assert {row["model"]: row["metrics"] for row in back} == {model: row["metrics"] for model, row in own.items()}
    assert {row["n_scored"] for row in back} == {row["n_scored"] for row in own.values()}
    good(seft_bench("export", *FORMAT, "../little.yaml", "--out", str(desk / "second")), status)
    assert contents(desk / "second") == contents(desk / "first")
    assert set(contents(desk / "first")) == {
        f"data/mt_bench/model_answer/{name}.jsonl" for name in ("org-model", "second")
    } | {"data/mt_bench/model_judgment/judge-1a2b_pair.jsonl"}
    if status:
        assert "1 comparisons were judged in one order only" in seen.err


def test_rows_are_as_fastchat_writes_them(desk: Path) -> None:
    answers, judgments = judged_pairs(("mine",), FAILED)
    good(
        seft_bench(
            "export", *FORMAT, "little.yaml", "--answers", str(answers), "--judgments", str(judgments), "--out", "out"
        ),
        5,
    )
    rows = lines(desk / "out" / FOLDER / "judge-1a2b_pair.jsonl")
    assert [(row["question_id"], row["turn"]) for row in rows] == [
        (81, 1),
        (81, 2),
        (82, 1),
        (82, 2),
        (101, 1),
        (101, 2),
    ]
    assert {(row["model_1"], row["model_2"]) for row in rows} == {("mine", "gpt-3.5-turbo")}
    winners = [(row["g1_winner"], row["g2_winner"]) for row in rows]
    assert winners == [
        ("model_1", "error"),
        ("model_2", "model_1"),
        ("model_1", "model_1"),
        ("error", "model_2"),
        ("error", "model_1"),
        ("model_1", "tie"),
    ]
    assert [rows[0]["g2_judgment"], rows[3]["g1_judgment"], rows[4]["g1_judgment"]] == [
        "I would rather not.",
        "$ERROR$",
        "$ERROR$",
    ]
    assert rows[0]["seft_bench"] == {"g2": {"status": "refused"}}
    assert list(rows[1]) == [
        *(
            "question_id",
            "model_1",
            "model_2",
            "g1_winner",
            "g2_winner",
            "judge",
            "g1_user_prompt",
            "g1_judgment",
            "g2_user_prompt",
            "g2_judgment",
        ),
        *("turn", "tstamp"),
    ]


def test_evaluated_comparisons_go_out_with_their_prompts_and_are_replaced_alone(desk: Path) -> None:
    def choose(prompt: str) -> str:
        return for_mine(prompt) if "MINE" in prompt else "[[C]]"

    with serving(otherwise=replying(choose)) as server:
        good(evaluate_pairs(desk, server))
        answers(desk / "other.jsonl", "other/model", "BASE")
        good(evaluate_pairs(desk, server, "--reference", "other.jsonl"))
    for _ in range(2):
        good(seft_bench("export", *FORMAT, "little.yaml", "--out", "out"))
    [path] = (desk / "out" / FOLDER).iterdir()
    rows = lines(path)
    assert "q101|ref1|MINE1 to 101|BASE1 to 101" in {row["g1_user_prompt"] for row in rows}
    assert all(row["g1_winner"] == row["g2_winner"] == "model_1" for row in rows)
    assert {row["judge"][1] for row in rows} == set(TEMPLATES)
    good(seft_bench("export", *FORMAT, "little.yaml", "--reference", "other.jsonl", "--out", "against-other"))
    [path] = (desk / "against-other" / FOLDER).iterdir()
    assert {row["model_2"] for row in lines(path)} == {"other/model"}
    row = json.loads(json.dumps(rows[0])) | {"model_1": "a third"}
    [path] = (desk / "out" / FOLDER).iterdir()
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    assert (
        "a third, which this export would drop"
        in good(seft_bench("export", *FORMAT, "little.yaml", "--out", "out"), 2).err
    )


def test_a_column_that_contradicts_the_winner_is_not_believed(desk: Path) -> None:
    answers, judgments = judged_pairs(("mine",), {0: {"preference": 1.9}})
    good(
        seft_bench(
            "export", *FORMAT, "little.yaml", "--answers", str(answers), "--judgments", str(judgments), "--out", "out"
        )
    )
    [path] = (desk / "out" / FOLDER).iterdir()
    honest = good(seft_bench("import", "out", *FORMAT, "little.yaml", "--json")).out
    rows = lines(path)
    for row in rows:
        row["seft_bench"] = {
            "g1": {"status": "refused", "details": {"preference": 1.1 if row["g1_winner"] == "model_1" else 9}},
            "g2": "none",
        }
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert good(seft_bench("import", "out", *FORMAT, "little.yaml", "--json")).out == honest


def test_grades_and_comparisons_are_told_apart(desk: Path) -> None:
    answers, judgments = judged_pairs(("mine",), {})
    good(
        seft_bench(
            "export", *FORMAT, "little.yaml", "--answers", str(answers), "--judgments", str(judgments), "--out", "out"
        )
    )
    seen = good(seft_bench("import", "out", "--format", "fastchat", "--suite", "mtbench"))
    assert "import them with --format fastchat-pairs" in seen.err
    assert (
        "which fastchat-pairs holds"
        in good(seft_bench("export", "--format", "fastchat", "--suite", "little.yaml", "--out", "o"), 2).err
    )


def test_real_comparisons_come_out_as_they_went_in(
    desk: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """75 rows of two models against each other, each model a candidate here; every row is written once."""
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    text = gzip.decompress((shared_data / "mt_bench" / "judgments_pair.jsonl.gz").read_bytes())
    (desk / "in" / FOLDER).mkdir(parents=True)
    (desk / "in" / FOLDER / "gpt-4_pair.jsonl").write_bytes(text)
    imported = json.loads(good(seft_bench("import", "in", *FORMAT, "mtbench-pairwise", "--json"), 5).out)
    direct = {
        result.model: result.metrics
        for result in score_files("mtbench-pairwise", None, desk / "in" / FOLDER / "gpt-4_pair.jsonl")
    }
    assert {row["model"]: row["metrics"] for row in imported} == direct
    good(seft_bench("export", *FORMAT, "mtbench-pairwise", "--out", "out"), 5)

    def order(row: dict[str, Any]) -> tuple[int, int]:
        return row["question_id"], row["turn"]

    made = lines(desk / "out" / FOLDER / "gpt-4_pair.jsonl")
    given = [json.loads(line) for line in text.splitlines()]
    assert len(made) == 75
    assert sorted(made, key=order) == sorted(given, key=order)
