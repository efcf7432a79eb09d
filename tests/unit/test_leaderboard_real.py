"""The plain table over eight models' real GPT-4 judgments, ranks checked against plain means over the rows."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path

import pytest

from seft_bench.evaluation.score_files import score_files
from seft_bench.report.leaderboard import plain_table
from seft_bench.report.render import to_markdown


def test_real_models_rank_as_their_rows_and_two_are_withheld(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    text = gzip.decompress((shared_data / "mt_bench" / "judgments_single.jsonl.gz").read_bytes()).decode()
    path = tmp_path / "gpt-4_single.jsonl"
    path.write_text(text, encoding="utf-8")
    table = plain_table(score_files("mtbench", None, path))

    grades: dict[str, dict[tuple[int, int], float]] = {}
    for row in map(json.loads, text.splitlines()):
        if row["score"] != -1:
            grades.setdefault(row["model"], {})[row["question_id"], row["turn"]] = row["score"]
    scores = {model: statistics.fmean(rows.values()) for model, rows in grades.items() if len(rows) / 160 >= 0.98}
    expected = sorted(scores, key=lambda model: -scores[model])

    columns = [column.key for column in table.columns]
    shown = [row.cells[columns.index("model")].value for row in table.rows]
    ranks = [row.cells[columns.index("rank")].value for row in table.rows]
    assert len(shown) == 8
    assert shown[:6] == expected
    assert ranks == [1, 2, 3, 4, 5, 6, "withheld", "withheld"]
    assert set(shown[6:]) == {"granite-7b-lab", "mistral-7b_dolphin_orca_labonne_dpo"}
    best = table.rows[0].cells[columns.index("score")]
    assert best.value == pytest.approx(scores[expected[0]])
    assert f"**{scores[expected[0]]:.2f}** [" in to_markdown(table)
