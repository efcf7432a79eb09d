"""The two sides of a check of two methods: rows of a matrix, each with its training seeds' final checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seft_bench.checks.arms import is_wanted, panel_name, refuse_several_judges, results_named, rows_of
from seft_bench.errors import InputError, WithheldError
from seft_bench.records import Result, run_of
from seft_bench.report.arms import is_control, is_final
from seft_bench.stats.seeds import FEWEST_SEEDS

Seeds = Mapping[int, Result]
"""Training seed -> the result of one row's final checkpoint."""


@dataclass(frozen=True)
class MethodPair:
    """One suite and decoding of both methods, judged by the same judge.

    Attributes:
        candidate, baseline: what is compared, by training seed.
        left_out: seeds that only one side has, where the others are paired.
    """

    candidate: Seeds
    baseline: Seeds
    left_out: tuple[int, ...] = ()

    @property
    def results(self) -> tuple[Result, ...]:
        return *self.candidate.values(), *self.baseline.values()

    @property
    def side_by_side(self) -> tuple[Result, ...]:
        """The results whose answers a reader is shown: the first seed of each side."""
        return next(iter(self.candidate.values())), next(iter(self.baseline.values()))

    @property
    def name(self) -> str:
        return panel_name(self.results[0])

    @property
    def is_paired(self) -> bool:
        """By seed: what a seed decides (the start, the order of the data) it decides for both."""
        return list(self.candidate) == list(self.baseline)

    @property
    def questions(self) -> list[str]:
        """Ids that every seed of both sides has a figure of, in the first one's order."""
        return [
            question
            for question in self.results[0].per_question
            if all(question in result.per_question for result in self.results)
        ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on how the seeds of both sides belong together, where they are not simply the same."""
        if self.left_out:
            return (
                f"paired by the training seeds of both sides; seeds {listed(self.left_out)}, which only one side has, "
                "are left out.",
            )
        if self.is_paired:
            return ()
        shared = sorted(set(self.candidate) & set(self.baseline))
        more = f" (only {listed(shared)} of both: too few to pair by)" if shared else ""
        return (
            f"the sides have other training seeds{more}, so they are compared as independent draws; with the same "
            "seeds they would be paired.",
        )


def titles_of(pairs: Sequence[MethodPair]) -> tuple[str, str]:
    """Return the names of both methods: never without their seeds."""
    sides = [pair.candidate for pair in pairs], [pair.baseline for pair in pairs]
    first, second = ({seed: result for seeds in side for seed, result in seeds.items()} for side in sides)
    return _title(first), _title(second)


def _title(side: Seeds) -> str:
    return f"method {run_of(next(iter(side.values()))).row} (seeds {listed(sorted(side))})"


def listed(seeds: Sequence[int] | Seeds) -> str:
    return ",".join(map(str, seeds))


def are_methods(candidate: str, baseline: str, everything: Sequence[Result]) -> bool:
    """Return True if the names mean two methods, False for two models; a model's name means the model.

    Raises:
        InputError: one of each, or one method twice.
    """
    kinds = [_is_method(name, everything) for name in (candidate, baseline)]
    if all(kinds) and candidate == baseline:
        raise InputError(f"{candidate!r} on both sides: a check takes two methods. There are {rows_of(everything)}.")
    if any(kinds) and not all(kinds):
        method, other = (candidate, baseline) if kinds[0] else (baseline, candidate)
        if not results_named(other, everything):
            raise InputError(
                f"{method!r} is a method, and there is no method or model {other!r} in these results; methods: "
                f"{rows_of(everything)}."
            )
        of_row = _of_row(method, everything)
        seeds = sorted({run_of(result).seed for result in of_row})
        models = ", ".join(sorted({result.model for result in of_row})[:6])
        raise InputError(
            f"{method!r} is a method (training seeds {listed(seeds)}) and {other!r} is not: one checkpoint says "
            f"nothing about a method. Compare two methods ({rows_of(everything)}), or two checkpoints; those of "
            f"{method}: {models}."
        )
    return all(kinds)


def _is_method(name: str, everything: Sequence[Result]) -> bool:
    return not results_named(name, everything) and bool(_of_row(name, everything))


def _of_row(name: str, everything: Sequence[Result]) -> list[Result]:
    return [
        result for result in everything if is_final(result) and run_of(result).row == name and not is_control(result)
    ]


@dataclass(frozen=True)
class _Key:
    """Figures may be compared within it, never across."""

    group: str
    suite: str
    decoding: str
    judge_id: str

    @property
    def column(self) -> tuple[str, str, str]:
        return self.group, self.suite, self.decoding


def find_method_pairs(
    candidate: str,
    baseline: str,
    everything: Sequence[Result],
    suites: Sequence[str] = (),
    judge: str = "",
    decoding: str = "",
    base: str = "",
    data: str = "",
) -> list[MethodPair]:
    """The final results of both rows that belong together, one pair a suite and decoding.

    Args:
        candidate, baseline: row names.
        everything: all results.
        suites, judge, decoding: as in `arms.find_pairs`.
        base, data: only these, of a matrix with several.

    Raises:
        InputError: nothing in common, or more than one thing meant.
        WithheldError: different judges, or too few training seeds.
    """
    sides = [_by_key(_chosen(name, everything, suites, judge, decoding, base, data)) for name in (candidate, baseline)]
    columns = [{key.column for key in side} for side in sides]
    if not columns[0] & columns[1]:
        raise _nothing_in_common((candidate, baseline), everything, sides)
    _refuse_several_groups(columns[0] & columns[1])
    common = [key for key in sides[0] if key in sides[1]]
    if not common:
        judges = " and ".join(
            f"{name} by {', '.join(sorted({key.judge_id for key in side}))}"
            for name, side in zip((candidate, baseline), sides, strict=True)
        )
        raise WithheldError(
            f"NOT COMPARABLE: judged by different judges, {judges}. Judge both with one: `seft-bench bench MATRIX`."
        )
    refuse_several_judges([next(iter(sides[0][key].values())) for key in common])
    pairs = [_paired(sides[0][key], sides[1][key]) for key in common]
    _refuse_few_seeds(pairs)
    return pairs


def _chosen(
    name: str, everything: Sequence[Result], suites: Sequence[str], judge: str, decoding: str, base: str, data: str
) -> list[Result]:
    wanted = [result for result in _of_row(name, everything) if is_wanted(result, suites, judge, decoding)]
    return [result for result in wanted if base in ("", run_of(result).base) and data in ("", run_of(result).data)]


def _by_key(results: Sequence[Result]) -> dict[_Key, dict[int, Result]]:
    """Group, suite, decoding and judge -> training seed -> result, seeds in order."""
    found: dict[_Key, dict[int, Result]] = {}
    for result in sorted(results, key=lambda result: run_of(result).seed):
        run = run_of(result)
        seeds = found.setdefault(_Key(run.group, result.suite, result.decoding, result.judge_id), {})
        if run.seed in seeds:
            raise InputError(
                f"method {run.row!r}, seed {run.seed}, has two final results on {panel_name(result)}: "
                f"{seeds[run.seed].model!r} and {result.model!r}. Keep one of them in the results folder."
            )
        seeds[run.seed] = result
    return found


def _paired(candidate: Seeds, baseline: Seeds) -> MethodPair:
    """By the seeds of both sides where they are enough, else as they are."""
    shared = [seed for seed in candidate if seed in baseline]
    if len(shared) < FEWEST_SEEDS:
        return MethodPair(candidate, baseline)
    left_out = sorted(set(candidate) ^ set(baseline))
    return MethodPair(
        {seed: candidate[seed] for seed in shared}, {seed: baseline[seed] for seed in shared}, tuple(left_out)
    )


def _refuse_few_seeds(pairs: Sequence[MethodPair]) -> None:
    few = [
        f"{_title(side)} on {pair.name}: {len(side)} of at least {FEWEST_SEEDS}"
        for pair in pairs
        for side in (pair.candidate, pair.baseline)
        if len(side) < FEWEST_SEEDS
    ]
    if few:
        raise WithheldError(
            "NOT COMPARABLE: a verdict on a method needs at least three training seeds on each side\n"
            + "\n".join(f"  {reason}" for reason in few)
            + "\nTrain more: `seft-bench bench MATRIX --seeds 0,1,2`; "
            "checkpoints of single seeds can be compared by their own names."
        )


def _refuse_several_groups(columns: set[tuple[str, str, str]]) -> None:
    groups = sorted({group for group, _, _ in columns})
    if len(groups) > 1:
        raise InputError(
            f"several bases or data have both methods: {'; '.join(group or 'unnamed' for group in groups)}. Choose one "
            "with --base or --data."
        )


def _nothing_in_common(
    names: tuple[str, str], everything: Sequence[Result], sides: Sequence[Mapping[_Key, Seeds]]
) -> InputError:
    have = "; ".join(
        f"{name} has {', '.join(sorted({_described(result) for result in _of_row(name, everything)}))}"
        for name in names
    )
    why = "with these options there is nothing" if not all(sides) else "there is nothing"
    return InputError(
        f"{why} in common of methods {names[0]} and {names[1]}: {have}. Evaluate both in one matrix: `seft-bench bench "
        "MATRIX`."
    )


def _described(result: Result) -> str:
    group = run_of(result).group
    return f"{result.suite} ({result.decoding}, {result.judge_id}{', ' + group if group else ''})"


def refuse_sequential(candidate: str, baseline: str, results: Path, everything: Sequence[Result]) -> None:
    """A sequential check answers and judges checkpoints; a method's are trained, answered and judged by `bench`.

    Raises:
        InputError: one of the names is a method's.
    """
    methods = [name for name in (candidate, baseline) if _is_method(name, everything)]
    what = "is a method" if len(methods) == 1 else "are methods"
    if methods:
        raise InputError(
            f"--sequential compares two checkpoints, and {' and '.join(map(repr, methods))} {what} of {results}/: "
            "training seeds are judged already. Leave --sequential out."
        )
