"""Our exports read by the official tools themselves: alpaca_eval's functions and FastChat's show_result give our
figures.

Over real models (six of AlpacaEval, one of them from its verbatim files; eight of MT-Bench) and over judgments of our
own on the tinyworld. alpaca_eval fetches its gamed rows from the network; here it is handed the official file of the
data folder.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import glob
import gzip
import importlib.util
import io
import json
import os
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas
import pytest

pytest.importorskip(
    "pkg_resources", reason="alpaca_eval needs setuptools < 81, as the extra `official` brings it", exc_type=ImportError
)
pytest.importorskip("alpaca_eval", reason="needs the extra `official`", exc_type=ImportError)
pytest.importorskip("fastchat", reason="needs the extra `official`", exc_type=ImportError)

from seft_bench.evaluation.score_files import score_files
from seft_bench.exchange.exporting import export
from seft_bench.exchange.importing import import_files
from seft_bench.exchange.sources import of_files
from seft_bench.files import write_jsonl
from seft_bench.records import Answer, Result, to_row
from seft_bench.suites import load_suite
from tests.integration.cli import seft_bench
from tests.real_data import MODELS, compact

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

JUDGE = "weighted_alpaca_eval_gpt4_turbo"
QUESTIONS = 805


def official_files(shared_data: Path, model: str, folder: Path) -> tuple[Path, Path]:
    """alpaca_eval's two files of one model, from the baseline and the compact rows."""
    baseline = json.loads((shared_data / "official" / "alpaca_eval" / "alpaca_eval_gpt4_baseline.json").read_text())
    outputs = {row["index"]: row["output"] for row in compact(shared_data, "outputs", model)}
    answers = [baseline[index] | {"output": text, "generator": model} for index, text in outputs.items()]
    annotations = [
        {key: baseline[row["index"]][key] for key in ("instruction", "dataset")}
        | {
            "output_1": baseline[row["index"]]["output"],
            "generator_1": "gpt4_1106_preview",
            "output_2": outputs[row["index"]],
            "generator_2": model,
        }
        | {"annotator": JUDGE, "preference": row["preference"], "raw_completion": None}
        for row in compact(shared_data, "annotations", model)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_outputs.json").write_text(json.dumps(answers))
    (folder / "annotations.json").write_text(json.dumps(annotations))
    return folder / "model_outputs.json", folder / "annotations.json"


def exported(suite_name: str, format_name: str, answers: Path | None, judgments: Path, out: Path) -> None:
    suite = load_suite(suite_name)
    export(format_name, suite, of_files(suite, answers, judgments), out)


# alpaca_eval


def its_figures(
    shared_data: Path, annotations: Path, monkeypatch: pytest.MonkeyPatch, length_controlled: bool = True
) -> dict[str, float]:
    """Return what alpaca_eval's own metric makes of a file of annotations.

    The file is read as alpaca_eval's own `--is_recompute_metrics_only` reads it.
    """
    from alpaca_eval.metrics import glm_winrate

    gamed = shared_data / "official" / "alpaca_eval" / "df_gamed.csv"
    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda filename, **_: str(gamed.with_name(filename)))
    frame = pandas.read_json(annotations)
    metric = glm_winrate.get_length_controlled_winrate if length_controlled else glm_winrate.get_winrate
    options = {"save_weights_dir": None} if length_controlled else {}
    return {name: float(value) for name, value in metric(frame, **options).items()}


def check_plain(theirs: Mapping[str, float], ours: Result) -> None:
    metrics = ours.metrics
    assert theirs["win_rate"] == pytest.approx(metrics["win_rate"], abs=1e-6)
    assert theirs["standard_error"] == pytest.approx(metrics["win_rate_se"], abs=1e-6)
    assert theirs["discrete_win_rate"] == pytest.approx(metrics["discrete_win_rate"], abs=1e-6)
    assert theirs["n_total"] == ours.n_scored


def check_table(path: Path, model: str, theirs: Mapping[str, float], outputs: Path) -> None:
    """The exported table's row, against their figures and their way to the average length (`main.evaluate`)."""
    row = pandas.read_csv(path, index_col=0).loc[model]
    for name in ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total", "discrete_win_rate"):
        assert row[name] == pytest.approx(theirs[name], abs=1e-6), name
    if row["n_total"] == QUESTIONS:  # with missing rows theirs is fitted to difficulties of other questions
        assert row["lc_standard_error"] == pytest.approx(theirs["lc_standard_error"], rel=0.02)
    assert row["avg_length"] == int(pandas.read_json(outputs)["output"].str.len().mean())


@pytest.mark.parametrize("model", MODELS)
def test_alpaca_eval_gives_our_figures_on_real_models(
    official_data: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, annotations = official_files(official_data, model, tmp_path / "in")
    [ours] = score_files("alpacaeval", answers, annotations)
    exported("alpacaeval", "alpaca_eval", answers, annotations, tmp_path / "out")
    folder = tmp_path / "out" / "results" / model
    theirs = its_figures(official_data, folder / JUDGE / "annotations.json", monkeypatch)
    check_plain(theirs, ours)
    check_table(
        tmp_path / "out" / "leaderboards" / f"{JUDGE}_leaderboard.csv", model, theirs, folder / "model_outputs.json"
    )
    if ours.n_scored == ours.n:  # by row position theirs is another figure where rows are missing
        assert theirs["length_controlled_winrate"] == pytest.approx(ours.metrics["lc_win_rate"], abs=0.15)
    else:
        assert any("by row position" in note for note in ours.notes)


def test_alpaca_eval_gives_our_figures_on_verbatim_files(
    official_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through import and export, and the same as on the files as they were published."""
    source = official_data / "examples" / "alpaca_eval" / "gemma-2b-it"
    suite = load_suite("alpacaeval")
    [ours] = import_files("alpaca_eval", suite, [source], tmp_path / "runs", tmp_path / "results").results
    exported(
        "alpacaeval",
        "alpaca_eval",
        source / "model_outputs.json",
        source / JUDGE / "annotations.json",
        tmp_path / "out",
    )
    theirs = its_figures(
        official_data, tmp_path / "out" / "results" / "gemma-2b-it" / JUDGE / "annotations.json", monkeypatch
    )
    assert theirs == its_figures(official_data, source / JUDGE / "annotations.json", monkeypatch)
    check_plain(theirs, ours)
    assert theirs["length_controlled_winrate"] == pytest.approx(ours.metrics["lc_win_rate"], abs=0.15)


def write_own_answers(path: Path, suite_name: str) -> None:
    """Three models that are right by and large, half the time, and hardly ever."""
    rng, rows = random.Random(3), []
    for model, right in (("org/good", 0.8), ("middling", 0.5), ("poor", 0.1)):
        for question in load_suite(suite_name).questions():
            texts = [rng.choice(["No idea.", turn, "I am not sure at all."]) for turn in question.turns]
            if rng.random() < right and question.reference:
                texts = [*question.reference, *texts][: len(texts)]
            rows.append(to_row(Answer(suite_name, question.id, model, tuple(texts))))
    write_jsonl(path, rows)


def own_evaluation(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Our own run over the tinyworld, exported: model -> its row as `eval --json` prints it."""
    monkeypatch.chdir(tmp_path)
    write_own_answers(tmp_path / "answers.jsonl", suite)
    seen = seft_bench("eval", "answers.jsonl", "--suite", suite, "--json")
    assert seen.status == 0, seen.err
    format_name = {"tiny-alpacaeval": "alpaca_eval", "tiny-mtbench": "fastchat"}[suite]
    done = seft_bench("export", "--format", format_name, "--suite", suite, "--out", "out")
    assert done.status == 0, done.err
    return {row["model"]: row for row in json.loads(seen.out)}


def test_alpaca_eval_gives_our_figures_on_our_own_judgments(
    official_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = own_evaluation("tiny-alpacaeval", tmp_path, monkeypatch)
    [table] = (tmp_path / "out" / "leaderboards").iterdir()
    for path in (tmp_path / "out" / "results").glob("*/*/annotations.json"):
        theirs = its_figures(official_data, path, monkeypatch, length_controlled=False)
        model = json.loads(path.read_text())[0]["generator_2"]
        metrics = rows.pop(model)["metrics"]
        assert theirs["win_rate"] == pytest.approx(metrics["win_rate"], abs=1e-6)
        assert theirs["standard_error"] == pytest.approx(metrics["win_rate_se"], abs=1e-6)
        assert theirs["discrete_win_rate"] == pytest.approx(metrics["discrete_win_rate"], abs=1e-6)
        check_table(table, model, theirs, path.parents[1] / "model_outputs.json")
    assert not rows


# FastChat


def shown(folder: Path, judge: str) -> dict[str, dict[str, float]]:
    """Read what show_result prints for one judge: "First turn", "Second turn", "Average" -> model -> score."""
    from fastchat.llm_judge.show_result import display_result_single

    arguments = argparse.Namespace(bench_name="mt_bench", input_file=None, judge_model=judge, model_list=None)
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()) as printed,
        pandas.option_context("display.precision", 12, "display.width", 400),
    ):
        display_result_single(arguments)
    sections = re.split(r"#{10} (.+) #{10}\n", printed.getvalue())[1:]
    return {title: _table(text) for title, text in zip(sections[::2], sections[1::2], strict=True)}


def _table(text: str) -> dict[str, float]:
    """Rows of "model  [turn]  score"; a name may hold spaces."""
    rows = (re.match(r"(.+?)\s+(?:[12]\s+)?(\d+\.\d+)$", line) for line in text.splitlines())
    return {row.group(1): float(row.group(2)) for row in rows if row}


def test_show_result_prints_our_figures_on_real_models(official_data: Path, tmp_path: Path) -> None:
    with gzip.open(official_data / "mt_bench" / "judgments_single.jsonl.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    (tmp_path / "gpt-4_single.jsonl").write_text(text, encoding="utf-8")
    ours = {result.model: result for result in score_files("mtbench", None, tmp_path / "gpt-4_single.jsonl")}
    exported("mtbench", "fastchat", None, tmp_path / "gpt-4_single.jsonl", tmp_path / "out")
    tables = shown(tmp_path / "out", "gpt-4")
    assert len(ours) == 8
    assert tables["Average"] == pytest.approx(
        {model: result.metrics["score_fastchat"] for model, result in ours.items()}, abs=1e-6
    )
    for turn, title in ((1, "First turn"), (2, "Second turn")):
        for model, result in ours.items():
            if result.metrics["score_fastchat"] == pytest.approx(
                result.metrics["score"], abs=1e-9
            ):  # judged twice, theirs averages both runs
                assert tables[title][model] == pytest.approx(result.metrics[f"turn_{turn}"], abs=1e-6)


def test_show_result_prints_our_figures_on_our_own_judgments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = own_evaluation("tiny-mtbench", tmp_path, monkeypatch)
    [path] = (tmp_path / "out" / "data" / "mt_bench" / "model_judgment").iterdir()
    tables = shown(tmp_path / "out", path.name.removesuffix("_single.jsonl"))
    for title, name in (("First turn", "turn_1"), ("Second turn", "turn_2"), ("Average", "score")):
        assert tables[title] == pytest.approx({model: row["metrics"][name] for model, row in rows.items()}, abs=1e-6)
    assert len({round(value, 6) for value in tables["Average"].values()}) == 3


def its_loader() -> Callable[[str], dict[str, dict[Any, dict[str, Any]]]]:
    """FastChat's `common.load_model_answers`, out of its file: importing the module needs a client library that its own
    metadata does not name.
    """
    spec = importlib.util.find_spec("fastchat")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "llm_judge" / "common.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "load_model_answers"]
    names: dict[str, Any] = {"glob": glob, "os": os, "json": json}
    exec(compile(tree, "common.py", "exec"), names)
    loader: Callable[[str], dict[str, dict[Any, dict[str, Any]]]] = names["load_model_answers"]
    return loader


def test_fastchat_loads_our_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = own_evaluation("tiny-mtbench", tmp_path, monkeypatch)
    loaded = its_loader()(str(tmp_path / "out" / "data" / "mt_bench" / "model_answer"))
    assert set(loaded) == {"org-good", "middling", "poor"}
    questions = {question.id for question in load_suite("tiny-mtbench").questions()}
    for answers in loaded.values():
        assert set(answers) == questions
        assert all(len(row["choices"][0]["turns"]) == 2 for row in answers.values())
    assert {row["model_id"] for answers in loaded.values() for row in answers.values()} == set(rows)
