"""The command `eval`: a plan of what is asked for, its cost, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seft_bench.cli.figures import advice_about_withheld, print_cost, show_figures
from seft_bench.cli.options import RESULTS, RUNS, JsonOption, LcCOption, LcIntervalOption


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checkpoint folder, folder of checkpoints, hub id, file of answers, aligner:POLICY+REVISER, or "
            "control:NAME.",
            show_default="every run under runs/",
        ),
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="Suite; may be repeated.", show_default="tiny-mtbench")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Judge's name or YAML file; default: the suite's.")] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", help="Only this step: answer, judge or score; may be repeated.", show_default="all"),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible server of MODEL, as in http://127.0.0.1:8000/v1, or a YAML of its settings."
        ),
    ] = None,
    server_key_env: Annotated[str | None, typer.Option(help="NAME of the variable with the server's key.")] = None,
    engine: Annotated[
        str,
        typer.Option(help="What answers for checkpoints: transformers, vllm (a server of ours) or vllm-in-process."),
    ] = "transformers",
    seed: Annotated[int, typer.Option(help="Seed of the sampled answers.")] = 0,
    reasoning: Annotated[
        str | None,
        typer.Option(
            help="strip or keep: whether what an answer begins with in <think> is judged with it.",
            show_default="as the decoding says: strip",
        ),
    ] = None,
    template_args: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE for the model's chat template, as in enable_thinking=false; may be repeated.",
            show_default="as the decoding says",
        ),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Answers of another baseline, for mtbench-pairwise.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for results and the leaderboard.")] = RESULTS,
    lc_c: LcCOption = None,
    lc_interval: LcIntervalOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked and what that costs; send nothing.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The most that this command may spend, in US dollars; asks nothing.",
            show_default="no limit",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however much it may cost.")] = False,
    as_json: JsonOption = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model. Dangerous.")
    ] = False,
) -> None:
    """Answer, judge and score: every checkpoint, on every suite asked for. Finished work is never paid for twice."""
    from seft_bench.console import steps_shown
    from seft_bench.evaluation.cost_estimate import estimate_cost
    from seft_bench.evaluation.plan import EvalRequest, plan_evaluation
    from seft_bench.evaluation.spending import agree, evaluate_within_budget
    from seft_bench.evaluation_files import Places
    from seft_bench.inference.store import store_path

    request = EvalRequest(
        models or [],
        suite or ["tiny-mtbench"],
        Places(RUNS, results, store_path(RUNS)),
        judge=judge,
        steps=stage or [],
        seed=seed,
        server=server,
        server_key_env=server_key_env,
        trust_remote_code=trust_remote_code,
        engine=engine,
        reference=reference,
        length_control={"lc_c": lc_c, "lc_interval": lc_interval},
        reasoning=reasoning or "",
        template_args=template_args or [],
        dry_run=dry_run,
    )
    plan = plan_evaluation(request)
    if dry_run:
        print_cost(estimate_cost(plan), as_json)
        return
    agree(plan, budget, yes)
    with steps_shown() as progress:
        scored = evaluate_within_budget(plan, budget, progress)
    show_figures(scored, as_json, advice_about_withheld(scored))
