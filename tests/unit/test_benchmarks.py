"""The benchmarks load, say what they lack, and read real material rightly.

Nothing is timed here: figures come from running them.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from pathlib import Path

import pytest

from tests.benchmark_scripts import BENCHMARKS, load_script

SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts put the repository on the path and set variables; neither may outlive a test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_help_is_the_method(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SCRIPTS:
        module = load_script(name)
        assert module.__doc__, name
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == 0, name
        assert module.__doc__.splitlines()[0] in capsys.readouterr().out, name


def test_each_script_is_explained() -> None:
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert not [name for name in SCRIPTS if f"`{name}.py`" not in text]


def test_lc_names_the_missing_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_script("lc").main(["--data", str(tmp_path)])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "8 of 8 files are missing" in message
    assert str(tmp_path / "data" / "alpaca_eval" / "annotations" / "NullModel.jsonl.gz") in message
    assert "--data or SEFT_BENCH_SHARED" in message


def test_lc_fits_the_leaderboards_model(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FuseChat-Gemma-2-9B-Instruct: 70.18 on the official leaderboard, from 805 annotations."""
    import json

    from seft_bench.stats.length_control import length_controlled

    module = load_script("lc")
    folder = module.material(shared_data.parent)
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(folder / "official"))
    rows = module.annotations(folder, "FuseChat-Gemma-2-9B-Instruct")
    official = json.loads((folder / "alpaca_eval" / "expected.json").read_text())["FuseChat-Gemma-2-9B-Instruct"][
        "official_leaderboard"
    ]
    assert len(rows) == module.QUESTIONS
    assert length_controlled(module.comparisons(rows)).win_rate == pytest.approx(
        official["length_controlled_winrate"], abs=0.15
    )


def test_the_fastest_call_counts_and_the_first_does_not() -> None:
    """One call to warm up and three that are timed, of each, in turn."""
    calls: list[str] = []
    times = load_script("lc").fastest({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert times.keys() == {"a", "b"}


@pytest.mark.parametrize("arguments", [["--in-flight", "0"], ["--in-flight", "32", "5000"], ["--repeats", "0"]])
def test_judge_throughput_bounds_its_requests(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_script("judge_throughput").main(arguments)
    assert stopped.value.code == 2
    assert "from 1 to 1024 and --repeats at least 1" in capsys.readouterr().err


def test_judge_throughput_takes_whole_rounds_of_the_steady_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 in flight, one answer every 20 ms by the clock: 50 a second, whatever the ramp-up and the end took."""
    module = load_script("judge_throughput")
    gaps = [1.0] * 30 + [0.02] * 200 + [5.0] * 10
    assert module.total(10) == len(gaps)
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += gaps.pop(0)
        return now

    monkeypatch.setattr(module.time, "perf_counter", clock)
    try:
        found = module.measure(lambda answered: [answered() for _ in range(240)] and None, 10)
    finally:
        monkeypatch.undo()
    assert found["per_second"] == 50.0


def test_judge_throughput_asks_nothing_twice() -> None:
    requests = load_script("judge_throughput").judge_requests(300)
    assert (
        len({request.question.turns[0] for request in requests})
        == len({request.candidate for request in requests})
        == 300
    )


def test_judge_throughput_serves_a_grade_that_the_judge_reads() -> None:
    """The real server process, one round of three requests: each comes back whole, and the process is gone
    afterwards.
    """
    import aiohttp

    from seft_bench.inference.replies import read_completion
    from seft_bench.judges.parse import parse_rating

    module = load_script("judge_throughput")

    async def ask(url: str) -> list[float | None]:
        async with aiohttp.ClientSession() as session:

            async def one() -> float | None:
                async with session.post(f"{url}/chat/completions", json={"model": "judge"}) as response:
                    return parse_rating(read_completion(await response.json()).text)

            return await asyncio.gather(*[one() for _ in range(3)])

    with module.server() as url:
        assert url.startswith("http://127.0.0.1:")
        assert asyncio.run(ask(url)) == [7.0, 7.0, 7.0]

    async def listening() -> bool:
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(f"{url}/models")
            except aiohttp.ClientConnectorError:
                return False
            return True

    assert not asyncio.run(listening())


def test_absent_peers_are_skipped_with_what_would_install_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load_script("judge_throughput")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    module.print_peers("http://127.0.0.1:1/v1", 32)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["alpaca_eval", "FastChat"]
    assert all("skipped" in line and "seft-bench[official]" in line for line in lines)


def test_report_makes_a_case_that_the_report_reads(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seft_bench.report.site import write_report

    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    load_script("report").make_case(shared_data, tmp_path, 2)
    written = write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    assert written.notes == ()
    assert len(list((tmp_path / "report" / "data" / "answers").glob("1-*.js"))) > 1


def test_tables_writes_real_rows_and_scores_them(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two mixed models: whole annotation files of 805 rows, and a leaderboard that ranks both by LC."""
    module = load_script("tables")
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    files = module.write_models(shared_data, tmp_path / "models", 2)
    seconds = module.measure(files, tmp_path / "results", {"lc_c": None, "lc_interval": None})
    assert set(seconds) == {"figures", "results", "tables", "all", "CPU"}
    with open(tmp_path / "results" / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["model"] for row in rows) == ["model-00", "model-01"]
    assert all(5 < float(row["lc_win_rate"]) < 95 for row in rows)


@pytest.mark.parametrize(("loss", "kind"), [("sft", "full"), ("dpo", "full"), ("sft", "lora")])
def test_train_memory_trains_rows_of_the_length_that_it_names(loss: str, kind: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    module = load_script("train_memory")
    batch_size = module.BATCH_SIZE["tiny"]
    module.prepare(tmp_path, "tiny", batch_size)
    module.run_ours(module.Training(loss, kind, tmp_path, 1), tmp_path / "out")
    tokens = json.loads((tmp_path / "out" / "run" / "train.jsonl").read_text())["tokens"]
    sequences = batch_size * (2 if loss == "dpo" else 1)
    assert 0.9 * module.TOKENS * sequences < tokens <= module.TOKENS * sequences
    name = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    weights = load_file(tmp_path / "out" / "run" / "checkpoints" / "step-000001" / name)
    assert ("torch.bfloat16" in {str(tensor.dtype) for tensor in weights.values()}) == (kind == "full")
    assert module.resident_megabytes() > 50


def test_train_throughput_knows_the_shape_of_smollm2(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    module = load_script("train_throughput")
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **module.SHAPES["smollm2"][2]))
    assert model.num_parameters() == 134_515_008  # as HuggingFaceTB/SmolLM2-135M has
    module.prepare(tmp_path, "tiny", 8)
    assert 8 * 32 <= module.count_tokens(tmp_path, "sft") <= 8 * module.SHAPES["tiny"][1]


def test_real_few_kinds_counts_by_hand() -> None:
    """Two pairs: the first, of the annotated kind, is won in every figure; the second ties, gains less, and loses."""
    import numpy as np

    module = load_script("real_few_kinds")
    start = {
        "chosen_sum": [-10.0, -10.0],
        "rejected_sum": [-10.0, -10.0],
        "rewards": [0.0, 0.0],
    }
    row = {
        "chosen_sum": [-8.0, -9.0],
        "rejected_sum": [-9.0, -8.0],
        "chosen_mean": [-1.0, -1.0],
        "rejected_mean": [-2.0, -1.0],
        "rewards": [1.0, -1.0],
        "characters": [10.0, 30.0],
    }
    found = module.row_figures([row], start, np.array([True, False]))
    means = {
        part: {figure: found[part][figure]["mean"] for figure in module.FIGURES} for part in ("annotated kind", "all")
    }
    assert means["annotated kind"] == {"prefers": 1.0, "gained": 1.0, "judged": 1.0}
    assert means["all"] == {"prefers": 0.75, "gained": 0.5, "judged": 0.5}
    assert found["other kinds"]["judged"]["mean"] == 0.0
    assert found["characters"] == 20.0


def test_real_few_kinds_names_the_rows_that_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        load_script("real_few_kinds").main(["--rows", "dop", "--results", str(tmp_path)])
    assert stopped.value.code == 2
    assert "dop" in (message := capsys.readouterr().err)
    assert "dpo" in message
