"""The command `score`: figures from ready files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seft_bench.cli.figures import show_figures
from seft_bench.cli.options import JsonOption, LcCOption, LcIntervalOption


def score(
    suite: Annotated[str, typer.Option(help="Suite that the judgments belong to.")],
    judgments: Annotated[
        Path,
        typer.Option(
            help="Judgments: ours, alpaca_eval's annotations.json, or FastChat's gpt-4_single or gpt-4_pair JSONL."
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Option(help="Answers: ours, alpaca_eval's model_outputs.json, or FastChat's model_answer JSONL."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Answers of another baseline.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Keep the figures in this folder of results, for the leaderboard.")
    ] = None,
    lc_c: LcCOption = None,
    lc_interval: LcIntervalOption = None,
    as_json: JsonOption = False,
) -> None:
    """Figures from ready files; neither model nor judge is called."""
    from seft_bench.evaluation.score_files import save_scored, score_files

    scored = score_files(suite, answers, judgments, reference, {"lc_c": lc_c, "lc_interval": lc_interval})
    if results is not None:
        save_scored(results, scored, judgments)
    show_figures(
        scored, as_json, "The rest is missing from the file, or was never parsed: judge it again, or quote nothing."
    )
