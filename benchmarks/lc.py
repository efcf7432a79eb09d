"""Time of the length-controlled win rate on real annotations: our exact fit against alpaca_eval's own, in the same run.

    python benchmarks/lc.py [--data FOLDER] [--repeats 5] [--refits 2000]      the comparison needs the extra `official`

Six models of the public leaderboard, about 805 annotations each, read before any clock starts. Five things are timed on
one thread:

    fit        our optimum at the declared C (21.544)
    interval   the same with its 95 % interval by influence functions: what `seft-bench score` computes
    whole      `interval` at the C that our cross-validation chooses, the choice included: the like of `library`
    library    alpaca_eval's `get_length_controlled_winrate`: the table's figure, C chosen by its cross-validation
    at our C   alpaca_eval's regression alone at the declared C, its design matrix ready, and the prediction: the like
               of `interval`

Ours and the library's take turns, the fastest of `--repeats` counts. The library looks up `df_gamed.csv` in the folder
of official files instead of on the hub, so no network is in its time; reading that file, lengths and design matrix are,
as in every use of it. `refits` is the bootstrap, done once a model. The library has none: "library / refits" is what as
many of its regressions at one C would take (`at our C` times their number) over our time. "library / whole" compares
the figure with C chosen, "at C / interval" the one at a given C. "C" is ours, and the one with which the official
table's figure is reproduced. The last column is how far the two fits at one C are apart: liblinear stops early, ours
does not. Where rows are missing (phi-2) the library takes difficulties by row position and fits other data, so its
distance says nothing about the fit.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seft_bench.errors import InputError

MODELS = (
    "NullModel",
    "gpt-3.5-turbo-1106_verbose",
    "gpt-3.5-turbo-1106_concise",
    "gemma-2b-it",
    "FuseChat-Gemma-2-9B-Instruct",
    "phi-2",
)
QUESTIONS = 805

Fits = Mapping[str, Callable[[], Any]]


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
    parser.add_argument("--repeats", type=int, default=5, help="the fastest of so many runs counts")
    parser.add_argument("--refits", type=int, default=2000, help="refits of one model's bootstrap")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        if min(options.repeats, options.refits) < 1:
            raise InputError("--repeats and --refits are at least 1. Run `python benchmarks/lc.py` for the defaults.")
        folder = material(options.data)
        os.environ["SEFT_BENCH_DATA_DIR"] = str(folder / "official")
        measured = {model: measure(folder, model, options.repeats, options.refits) for model in MODELS}
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    official = json.loads((folder / "alpaca_eval" / "expected.json").read_text(encoding="utf-8"))
    print_table(measured, options.refits, {model: official[model]["C_that_reproduces_official_lc"] for model in MODELS})


def material(folder: Path | None) -> Path:
    """The `data` folder of the shared material.

    Raises:
        InputError: a file that the benchmark reads is not there.
    """
    root = folder or Path(os.environ.get("SEFT_BENCH_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    needed = [root / "data" / "alpaca_eval" / "annotations" / f"{model}.jsonl.gz" for model in MODELS]
    needed += [
        root / "data" / "official" / "alpaca_eval" / name for name in ("df_gamed.csv", "instruction_difficulty.csv")
    ]
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise InputError(
            f"the real annotations are not in {root}: {len(missing)} of {len(needed)} files are missing, the first is "
            f"{missing[0]}. Name the folder with --data or SEFT_BENCH_SHARED (CONTRIBUTING.md says what it holds)."
        )
    return root / "data"


def measure(folder: Path, model: str, repeats: int, refits: int) -> dict[str, Any]:
    """Milliseconds of each way to the figure, and the figures at the declared C."""
    from seft_bench.stats.length_control import DECLARED_C, fit, length_controlled, refitted

    rows = annotations(folder, model)
    data = comparisons(rows)
    fits: dict[str, Callable[[], Any]] = {
        "fit": lambda: fit(data),
        "interval": lambda: length_controlled(data),
        "whole": lambda: cross_validated(rows, data),
    }
    library = library_fits(folder, rows, model, DECLARED_C) if importlib.util.find_spec("alpaca_eval") else {}
    found = fastest({**fits, **library}, repeats)
    start = time.perf_counter()
    refitted(data, resamples=refits)
    found["refits"] = 1000 * (time.perf_counter() - start)
    found["ours_lc"] = length_controlled(data).win_rate
    found["c"] = cross_validated(rows, data).c
    if library:
        found["library_lc"] = library["at our C"]()
    print(f"{model}: { ({name: round(value, 2) for name, value in found.items()}) }", file=sys.stderr)
    return {**found, "rows": len(rows)}


def fastest(fits: Fits, repeats: int) -> dict[str, float]:
    """Return milliseconds of the fastest of `repeats` calls, after one call that warms up.

    The fits take turns, so that a busy machine hits all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in fits}
    for number in range(repeats + 1):
        for name, run in fits.items():
            start = time.perf_counter()
            run()
            if number:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: min(values) for name, values in times.items()}


def annotations(folder: Path, model: str) -> list[dict[str, Any]]:
    with gzip.open(folder / "alpaca_eval" / "annotations" / f"{model}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def comparisons(rows: list[dict[str, Any]]) -> Any:
    """Return the regression's rows as the suite makes them: difficulty by question, never by row position."""
    import numpy as np

    from seft_bench.data.official import gamed_data, instruction_difficulties
    from seft_bench.stats.alpacaeval import win_probabilities
    from seft_bench.stats.length_control import Comparisons, GamedRows

    gamed, difficulties = gamed_data(), instruction_difficulties()
    length = np.tanh(gamed.std_length_difference)
    return Comparisons(
        wins=win_probabilities([row["preference"] for row in rows]),
        length_difference=np.array([row["len_1"] - row["len_2"] for row in rows], dtype=np.float64),
        difficulty=np.array([difficulties[row["index"]] for row in rows]),
        gamed=GamedRows(length, np.array(gamed.difficulty), np.array(gamed.preference)),
    )


def cross_validated(rows: list[dict[str, Any]], data: Any) -> Any:
    """LC with its interval at the C of our cross-validation."""
    import numpy as np

    from seft_bench.stats.lc_cross_validation import cross_validated_c
    from seft_bench.stats.length_control import length_controlled

    positions = np.array([row["index"] for row in rows])
    return length_controlled(
        data, cross_validated_c(data, positions, np.arange(data.gamed.preference.size) % QUESTIONS).c
    )


def library_fits(folder: Path, rows: list[dict[str, Any]], model: str, c: float) -> Fits:
    """alpaca_eval's whole figure, and its regression alone at `c`.

    It reads lengths only, so texts of those lengths stand for the real ones.
    """
    import pandas as pd
    from alpaca_eval.metrics import glm_winrate

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    glm_winrate.hf_hub_download = lambda filename, **_: str(folder / "official" / "alpaca_eval" / filename)
    frame = pd.DataFrame(
        {
            "preference": [row["preference"] for row in rows],
            "output_1": ["x" * row["len_1"] for row in rows],
            "output_2": ["x" * row["len_2"] for row in rows],
            "generator_1": "gpt4_1106_preview",
            "generator_2": model,
        }
    )
    settings = glm_winrate.GLM_INFO["length_controlled_v1"]
    train, test, weight = glm_winrate._get_featurized_data(
        frame, settings["formula"], settings["regularize_to_baseline_lambda"]
    )

    def whole() -> float:
        return float(
            glm_winrate.get_length_controlled_winrate(
                frame, save_weights_dir=None, is_add_glm_preference_inplace=False
            )["length_controlled_winrate"]
        )

    def at_c() -> float:
        fitted = glm_winrate.fit_LogisticRegressionCV(train, "preference", sample_weight=weight, n_splits=0, C=c)
        return float(100 * fitted.predict_proba(test)[:, 1].mean())

    return {"library": whole, "at our C": at_c}


def print_table(measured: Mapping[str, Mapping[str, Any]], refits: int, official_c: Mapping[str, float]) -> None:
    with_library = "library" in next(iter(measured.values()))
    titles = ["rows", "fit ms", "interval ms", "whole ms", f"{refits} refits ms", "C, official C"]
    titles += (
        ["library ms", "library / whole", "at our C ms", "at C / interval", "library / refits", "LC apart"]
        if with_library
        else []
    )
    print(f"{'':28}" + "".join(f"{title:>17}" for title in titles))
    for model, row in measured.items():
        cells = [
            f"{row['rows']}",
            f"{row['fit']:.2f}",
            f"{row['interval']:.2f}",
            f"{row['whole']:.1f}",
            f"{row['refits']:.0f}",
        ]
        cells.append(f"{row['c']:.4g}, {official_c[model]:.4g}")
        if with_library:
            cells += [
                f"{row['library']:.0f}",
                f"{row['library'] / row['whole']:.0f}",
                f"{row['at our C']:.1f}",
                f"{row['at our C'] / row['interval']:.1f}",
            ]
            cells += [f"{row['at our C'] * refits / row['refits']:.0f}"]
            cells += [f"{abs(row['library_lc'] - row['ours_lc']):.4f}" if row["rows"] == QUESTIONS else "(by position)"]
        print(f"{model:28}" + "".join(f"{cell:>17}" for cell in cells))
    if not with_library:
        print('alpaca_eval is not installed, so ours is compared with nothing: pip install "seft-bench[official]"')


if __name__ == "__main__":
    main()
