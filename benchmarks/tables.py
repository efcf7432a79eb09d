"""Time from 57 models' annotation files to the leaderboard in five formats.

    python benchmarks/tables.py [--data FOLDER] [--models 57] [--lc-c C] [--lc-interval sandwich|bootstrap]

Each model is resampled from the real ones of the shared material: on every one of the 805 questions it has the answer
and the judgment of one of them, drawn at random, so texts, lengths and preferences are real. Its file is alpaca_eval's
`annotations.json`, as that tool writes it but for the judge's raw reply (3 MB a file). Writing these files is not
timed. Timed, in one process and one thread, in three parts:

    figures  parse and check every file; win rate, discrete win rate, length-controlled win rate with its interval and
             standard errors, coverage
    results  one `result.json` and `questions.json` a model, each replaced atomically and synced to the disk
    tables   read these back, and write leaderboard.{md,csv,html,tex,json}

Seconds are by the clock; "CPU s" is what the process itself used of them, which other programs on the machine and a
slow disk do not change. "json.loads" is the time of parsing the same files with `json` and doing nothing with them, in
the same run: a yardstick of the machine's speed (the files are read with pydantic's faster parser).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from seft_bench.errors import InputError

SUITE = "alpacaeval"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help=(
            "folder of the shared real material (with data/alpaca_eval in it); default SEFT_BENCH_SHARED, else "
            "../shared"
        ),
    )
    parser.add_argument("--models", type=int, default=57, help="how many models")
    parser.add_argument("--lc-c", help="C of the length control, or cross-validated")
    parser.add_argument("--lc-interval", help="sandwich or bootstrap")
    options = parser.parse_args(arguments)
    try:
        if options.models < 1:
            raise InputError("--models is at least 1")
        folder = lc().material(options.data)
        os.environ["SEFT_BENCH_DATA_DIR"] = str(folder / "official")
        with tempfile.TemporaryDirectory() as work:
            files = write_models(folder, Path(work) / "models", options.models)
            seconds = measure(files, Path(work) / "results", {"lc_c": options.lc_c, "lc_interval": options.lc_interval})
            floor = parsing_alone(files)
            megabytes = sum(path.stat().st_size for path in files) / 1e6
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    print("".join(f"{title:>14}" for title in ("models", "MB", *(f"{part} s" for part in seconds), "json.loads s")))
    print(
        f"{options.models:>14}{megabytes:>14.0f}" + "".join(f"{value:>14.2f}" for value in (*seconds.values(), floor))
    )


def lc() -> ModuleType:
    """The neighbouring benchmark, which reads the compact annotations."""
    spec = importlib.util.spec_from_file_location("benchmark_lc_rows", Path(__file__).with_name("lc.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_models(folder: Path, out: Path, count: int) -> list[Path]:
    """One annotations.json a model, mixed from the real models' rows; the same files every time."""
    import gzip

    from seft_bench.suites import load_suite

    rng, module = random.Random(0), lc()
    questions = load_suite(SUITE).questions()
    real: list[dict[int, tuple[str, float]]] = []
    for name in module.MODELS:
        with gzip.open(folder / "alpaca_eval" / "outputs" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            texts = {row["index"]: row["output"] for row in map(json.loads, file)}
        real.append(
            {row["index"]: (texts[row["index"]], row["preference"]) for row in module.annotations(folder, name)}
        )
    out.mkdir(parents=True)
    paths = []
    for number in range(count):
        weights = [rng.random() for _ in real]
        rows = [
            _row(f"model-{number:02}", position, question, _draw(rng, real, weights, position))
            for position, question in enumerate(questions)
        ]
        paths.append(out / f"model-{number:02}.json")
        paths[-1].write_text(json.dumps(rows, indent=4, ensure_ascii=False), encoding="utf-8")
    return paths


def _draw(
    rng: random.Random, real: list[dict[int, tuple[str, float]]], weights: list[float], position: int
) -> tuple[str, float]:
    while (drawn := rng.choices(real, weights)[0].get(position)) is None:
        pass
    return drawn


def _row(model: str, position: int, question: Any, drawn: tuple[str, float]) -> dict[str, Any]:
    return {
        "instruction": question.turns[0],
        "output_1": question.reference[0],
        "generator_1": "gpt4_1106_preview",
        "dataset": question.metadata["dataset"],
        "output_2": drawn[0],
        "generator_2": model,
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": drawn[1],
        "index": position,
        "time_per_example": 1.5,
        "price_per_example": 0.01,
    }


def measure(files: list[Path], results: Path, length_control: dict[str, str | None]) -> dict[str, float]:
    """Seconds of each part, of all, and of the processor."""
    from seft_bench.evaluation.plan import write_leaderboard
    from seft_bench.evaluation.score_files import score_files
    from seft_bench.report.sheets import STYLES
    from seft_bench.results import save_result

    seconds = dict.fromkeys(("figures", "results", "tables"), 0.0)
    used = time.process_time()

    def timed(part: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = work()
        seconds[part] += time.perf_counter() - start
        return done

    for path in files:
        [result] = timed("figures", lambda path=path: score_files(SUITE, None, path, length_control=length_control))
        timed("results", lambda result=result: save_result(results, result))
    timed("tables", lambda: write_leaderboard(results))
    missing = [suffix for suffix in STYLES.values() if not (results / f"leaderboard.{suffix}").is_file()]
    assert not missing, missing
    return seconds | {"all": sum(seconds.values()), "CPU": time.process_time() - used}


def parsing_alone(files: list[Path]) -> float:
    start = time.perf_counter()
    for path in files:
        json.loads(path.read_bytes())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
