"""Sentences on a matrix: every verdict is read off a paired interval, none is written beforehand. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from seft_bench.records import Result, RunFacts, run_of
from seft_bench.report.arms import (
    CONTENT,
    Arm,
    Measure,
    Panel,
    arm,
    by_group,
    difference,
    excludes_zero,
    is_control,
    is_final,
    mean_interval,
    measure_of,
    on_fewer_prompts,
    panels,
)
from seft_bench.report.render import plain_text
from seft_bench.stats.intervals import Interval

START, SEFT, ALWAYS_REWRITE = "start", "seft", "always-rewrite"

Runs = Mapping[str, RunFacts]
"""Row -> the facts of one of its runs."""


def findings(results: Iterable[Result]) -> list[str]:
    """Sentences for every suite and decoding, from the final checkpoints of a matrix.

    Who leads; whether SEFT beats the start; SEFT against always-rewrite and each control; its gain in content alone.
    Where a control is not below SEFT by an interval that excludes zero, the sentence says what the gain can then not be
    credited to. Empty without such results.
    """
    final = [result for result in results if is_final(result) and not is_control(result)]
    return [
        f"{plain_text(group)}: {sentence}" if group else sentence
        for group, own in by_group(final).items()
        for sentence in _of_group(own)
    ] + _caveats(final)


def _of_group(final: Sequence[Result]) -> list[str]:
    """Sentences of one base and data set."""
    rows: dict[str, list[Result]] = {}
    for result in final:
        rows.setdefault(run_of(result).row, []).append(result)
    runs = {row: run_of(group[0]) for row, group in rows.items()}
    sentences, shown = [], panels(final)
    for panel in shown:
        arms = {row: found for row, group in rows.items() if (found := arm(group, panel))}
        several_judges = sum(other.title == panel.title for other in shown) > 1
        title = f"{panel.title}, judge {panel.judge_id}" if several_judges else panel.title
        sentences += [
            f"{plain_text(title)}: {plain_text(sentence)}" for sentence in _panel_sentences(panel, arms, runs)
        ]
    return sentences


def _panel_sentences(panel: Panel, arms: Mapping[str, Arm], runs: Runs) -> list[str]:
    if not arms:
        return ["no figure may be published, every result is withheld."]
    measure = measure_of(next(iter(next(iter(arms.values())).values())))
    sentences = [_leader(arms, runs, measure)]
    if SEFT not in arms:
        return [*sentences, "SEFT has no figure here, so nothing is said about it."]
    start = next((row for row in runs if row == START or runs[row].role == START), START)
    if start in arms:
        sentences += [_against_start(arms, runs, start, measure), *_content(arms, start)]
    if ALWAYS_REWRITE in arms:
        sentences.append(_against_always_rewrite(arms, runs, measure))
    return sentences + [_against_control(arms, runs, row, measure) for row in arms if runs[row].role == "control"]


def _label(row: str, runs: Runs) -> str:
    return f'"{runs[row].label or row}"'


def _named(row: str, runs: Runs) -> str:
    return _label(row, runs) + (" (a control)" if runs[row].role == "control" else "")


def _leader(arms: Mapping[str, Arm], runs: Runs, measure: Measure) -> str:
    means = {row: interval for row in arms if (interval := mean_interval(arms[row], measure)) is not None}
    if not means:
        return "nothing is scored."
    best = max(means, key=lambda row: means[row].mean)
    gaps = {row: difference(arms[best], arms[row], measure) for row in means if row != best}
    tied = [_named(row, runs) for row, gap in gaps.items() if gap is not None and not excludes_zero(gap)]
    beside = f"; not told apart from it by the paired interval: {', '.join(tied)}" if tied else ""
    return f"{_named(best, runs)} leads with a {measure.title} of {_estimate(means[best], measure)}{beside}."


def _against_start(arms: Mapping[str, Arm], runs: Runs, start: str, measure: Measure) -> str:
    gain = difference(arms[SEFT], arms[start], measure)
    names = f"SEFT against the start ({_label(start, runs)})"
    if gain is None:
        return f"{names}: no seed in common, so no paired difference."
    verdict = "SEFT beats the start" if gain.mean > 0 else "SEFT is worse than the start"
    return f"{names}: {_gap(gain, measure)}; " + (f"{verdict}." if excludes_zero(gain) else "no difference is shown.")


def _content(arms: Mapping[str, Arm], start: str) -> list[str]:
    """SEFT's gain in what answers say, apart from their form; nothing where the judge does not grade it."""
    gain, level = difference(arms[SEFT], arms[start], CONTENT), mean_interval(arms[start], CONTENT)
    if gain is None or level is None:
        return []
    return [
        f"in content alone, SEFT's difference to the start (whose content score is {level.mean:.{CONTENT.decimals}f}) "
        f"is {_gap(gain, CONTENT)}."
    ]


def _against_always_rewrite(arms: Mapping[str, Arm], runs: Runs, measure: Measure) -> str:
    gain = difference(arms[SEFT], arms[ALWAYS_REWRITE], measure)
    name = _label(ALWAYS_REWRITE, runs)
    if gain is None:
        return f"SEFT against {name}: no seed in common, so no paired difference."
    if _is_ahead(gain):
        return f"SEFT against {name}: {_gap(gain, measure)}; deciding when to revise pays."
    return (
        f"SEFT against {name}: {_gap(gain, measure)}; rewriting everything does {_as_well(gain)}, so nothing here is "
        "owed to the decision when to revise."
    )


def _against_control(arms: Mapping[str, Arm], runs: Runs, row: str, measure: Measure) -> str:
    gap = difference(arms[SEFT], arms[row], measure)
    names = f"SEFT against the control {_label(row, runs)}"
    if gap is None:
        return (
            f"{names}: no seed in common, so no paired difference; what SEFT gains cannot be credited to "
            f"{_credit(row, runs)} here."
        )
    if _is_ahead(gap):
        return f"{names}: {_gap(gap, measure)}; SEFT is ahead of what this control explains."
    return (
        f"{names}: {_gap(gap, measure)}; the control does {_as_well(gap)}, so what SEFT gains cannot be credited to "
        f"{_credit(row, runs)}."
    )


def _credit(row: str, runs: Runs) -> str:
    """Name what a control tests: SEFT itself on fewer prompts tests their number, every other one the reviser."""
    return "the larger number of unannotated prompts" if on_fewer_prompts(runs[row], runs[SEFT]) else "the reviser"


def _is_ahead(gap: Interval) -> bool:
    return excludes_zero(gap) and gap.mean > 0


def _as_well(gap: Interval) -> str:
    return "better" if excludes_zero(gap) else "as well, within the interval"


def _estimate(interval: Interval, measure: Measure) -> str:
    ends = (
        ""
        if interval.low is None or interval.high is None
        else f" [{interval.low:.{measure.decimals}f}, {interval.high:.{measure.decimals}f}]"
    )
    return f"{interval.mean:.{measure.decimals}f}{ends}"


def _gap(interval: Interval, measure: Measure) -> str:
    """`+1.95 [+1.80, +2.10], which excludes zero`."""
    mean, low, high = (
        None if value is None else f"{round(value, measure.decimals) + 0.0:+.{measure.decimals}f}"
        for value in (interval.mean, interval.low, interval.high)
    )
    if low is None:
        return f"{mean}, without an interval"
    return f"{mean} [{low}, {high}], which {'excludes' if excludes_zero(interval) else 'includes'} zero"


def _caveats(final: Sequence[Result]) -> list[str]:
    if not final:
        return []
    seeds = {run_of(result).seed for result in final}
    noise = (
        f"and {len(seeds)} training seeds"
        if len(seeds) > 1
        else "only: with one training seed, training noise is not in them"
    )
    return [
        f"Intervals are 95 % paired bootstrap intervals over questions {noise}; each stands alone, uncorrected for the "
        "number of comparisons."
    ]
