"""FastChat's own show_result on the real pairwise judgments, against our figures for the same file."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
from pathlib import Path

import pytest

from seft_bench.scoring import score_files

pytestmark = pytest.mark.peers


def test_show_result_prints_our_figures(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show_result = pytest.importorskip("fastchat.llm_judge.show_result", reason="fschat is not installed (extra `official`)")
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    path = tmp_path / "gpt-4_pair.jsonl"
    path.write_bytes(gzip.decompress((shared_data / "mt_bench" / "judgments_pair.jsonl.gz").read_bytes()))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        show_result.display_result_pairwise(argparse.Namespace(input_file=str(path), model_list=None, baseline_model=None))
    theirs = {parts[0]: parts[1:] for line in printed.getvalue().splitlines() if len(parts := line.split()) == 7}
    results = {result.model: result.metrics for result in score_files("mtbench-pairwise", None, path)}
    assert set(theirs) == set(results) == {"phi-3", "phi-3-dpo"}
    for model, metrics in results.items():
        wins, losses, ties, *_, adjusted = theirs[model]
        assert (metrics["wins"], metrics["losses"], metrics["ties"]) == (int(wins), int(losses), int(ties))
        assert metrics["win_rate"] == pytest.approx(100 * float(adjusted), abs=1e-4)  # it prints six digits
