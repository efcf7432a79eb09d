"""Sentences on a study: where a method pays, where it ties, and what is not shown; all read off corrected intervals.

Pure. "Ahead" is by the row's own interval and by the one that is corrected for all methods that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from seft_bench.report.annotation import PARTS
from seft_bench.report.arms import CONTENT, STYLE, Measure, Panel
from seft_bench.report.pools import Pool, counted
from seft_bench.report.render import plain_text
from seft_bench.report.study import Compared, Study
from seft_bench.report.study_words import (
    REVISER,
    Duel,
    counted_names,
    duels_of,
    everywhere,
    figures_of,
    name_of,
    names_of,
    other_of,
    pools_said,
    rests_on,
)


def summary(found: Sequence[Compared], study: Study) -> dict[str, list[str]]:
    """Say of each method that is compared where it pays, where it ties or loses, and what is not claimed."""
    by_row: dict[str, list[Duel]] = {}
    for duel in duels_of(found):
        by_row.setdefault(duel.row, []).append(duel)
    return {
        row: [plain_text(sentence) for sentence in [*_where(own, study), *_not_claimed(own, study)]]
        for row in study.compared
        if (own := by_row.get(row))
    }


def sentences(found: Sequence[Compared], study: Study) -> list[str]:
    """Say of each pool whom a method is ahead of, and of each control and variant what the difference is owed to."""
    duels = duels_of(found)
    said = []
    for row, pool in dict.fromkeys((duel.row, duel.pool) for duel in duels):
        own = [duel for duel in duels if (duel.row, duel.pool) == (row, pool)]
        decided = [duel for duel in own if duel.is_decided]
        said += [_standing(own, study), *(_owed(duel, study) for duel in decided if duel.key in study.tests)]
    return [plain_text(sentence) for sentence in said]


# Where it pays


def _where(duels: Sequence[Duel], study: Study) -> list[str]:
    """Sort the pools by how the method stands to its controls: one sentence a pool."""
    return [
        _against_controls([duel for duel in _controls(duels, study) if duel.pool == pool], study)
        for pool in dict.fromkeys(duel.pool for duel in duels)
    ]


def _controls(duels: Sequence[Duel], study: Study) -> list[Duel]:
    """Those against controls, or against all others where none is compared."""
    return [duel for duel in duels if study.tests.get(duel.key) == REVISER] or list(duels)


def _against_controls(duels: Sequence[Duel], study: Study) -> str:
    name = name_of(duels[0].row, study)
    behind, ties = ([duel for duel in duels if duel.count("behind")], [duel for duel in duels if duel.ties])
    if all(duel.pays for duel in duels):
        verdict = f"{name} pays: ahead of {names_of(duels, study)} in {everywhere(duels)}"
    elif not any(duel.is_decided for duel in duels):
        verdict = f"{name} has too few runs for a verdict"
    elif behind:
        verdict = f"{name} loses: behind {counted_names(behind, 'behind', study)}"
    elif len(ties) == len(duels):
        verdict = f"{name} ties: not told apart from {names_of(duels, study)} in {everywhere(duels)}"
    else:
        ahead = [duel for duel in duels if duel.count("ahead")]
        beside = f", not told apart from {names_of(ties, study)}" if ties else ""
        verdict = f"{name} pays in part: ahead of {counted_names(ahead, 'ahead', study)}{beside}"
    closest = "the closest of them, " if len(duels) > 1 else ""
    return f"{rests_on(duels[0])}, {verdict}; against {closest}{figures_of(_closest(duels), study)}."


def _closest(duels: Sequence[Duel]) -> list[Compared]:
    """In each suite and decoding the comparison with the smallest difference: no figure is chosen for its size."""
    panels = dict.fromkeys(item.panel for duel in duels for item in duel.main())
    every = [item for duel in duels for item in duel.main()]
    return [
        min((item for item in every if item.panel == panel), key=lambda item: item.found.alone.mean) for panel in panels
    ]


# What is not claimed


def _not_claimed(duels: Sequence[Duel], study: Study) -> list[str]:
    """Name what the study tests and does not show with every amount of annotation."""
    row = duels[0].row
    variants = {
        (other, test): [duel for duel in duels if duel.other == other]
        for (tested, other), test in study.tests.items()
        if tested == row and test != REVISER and any(duel.other == other and not duel.pays for duel in duels)
    }
    claims = [
        f"that {test} adds to the policy (ahead of {name_of(other, study)} {_by_pool(own)})"
        for (other, test), own in variants.items()
    ]
    controls = _controls(duels, study)
    if any(item.verdict != "ahead" for duel in controls for item in duel.whole(CONTENT)):
        claims.append(f"a gain in content (ahead of {names_of(controls, study)} {_by_pool(controls, CONTENT)})")
    return [f"Not claimed of {name_of(row, study)}: {'; '.join(claims)}. {_design(duels)}"] if claims else []


def _by_pool(duels: Sequence[Duel], measure: Measure | None = None) -> str:
    """In how many suites and decodings a method is ahead of all of the others, pool by pool."""
    pools: dict[str, list[Pool]] = {}
    for pool in dict.fromkeys(duel.pool for duel in duels):
        ahead: dict[Panel, bool] = {}
        for duel in duels:
            for item in (duel.main() if measure is None else duel.whole(measure)) if duel.pool == pool else ():
                ahead[item.panel] = ahead.get(item.panel, True) and item.verdict == "ahead"
        if ahead:
            pools.setdefault(f"{sum(ahead.values())} of {len(ahead)}", []).append(pool)
    return ", ".join(f"in {count} with {pools_said(own)}" for count, own in pools.items())


def _design(duels: Sequence[Duel]) -> str:
    """Say what all of a method's comparisons rest on."""
    items = [item for duel in duels for item in duel.items]
    data_sets = {item.pool: item.data_sets for item in items}
    seeds, rows = max(item.seeds for item in items), max(item.rows for item in items)
    return (
        f"{counted(seeds, 'seed')}, each on {' + '.join(map(str, data_sets.values()))} of the data sets; "
        f"{counted(rows, 'method')} compared."
    )


# All in words


def _standing(duels: Sequence[Duel], study: Study) -> str:
    """Say whom a method is ahead of, not told apart from, and behind."""
    panels = len(duels[0].main())
    always = [duel for duel in duels if duel.pays]
    behind = [duel for duel in duels if duel.count("behind")]
    ties = [duel for duel in duels if duel.ties and duel.is_decided]
    undecided = [duel for duel in duels if not duel.is_decided]
    partly = [duel for duel in duels if duel not in (*always, *behind, *ties, *undecided)]
    parts = [
        f"ahead of {names_of(always, study)} in {everywhere(always)}" if always else "",
        f"ahead of {counted_names(partly, 'ahead', study)}" if partly else "",
        f"not told apart from {names_of(ties, study)} in any of {panels}" if ties else "",
        f"behind {counted_names(behind, 'behind', study)}" if behind else "",
        f"not compared with {names_of(undecided, study)}, for want of runs" if undecided else "",
    ]
    return f"{rests_on(duels[0])}, {name_of(duels[0].row, study)} is {'; '.join(part for part in parts if part)}."


def _owed(duel: Duel, study: Study) -> str:
    """Give a control's or a variant's figures, and say what they can and cannot credit."""
    panels, ahead = len(duel.main()), duel.count("ahead")
    test = study.tests[duel.key]
    if duel.pays:
        verdict = f"{test} adds to it in {everywhere([duel])}"
    elif duel.count("behind"):
        verdict = f"without it the score is higher in {duel.count('behind')} of {panels}, so nothing is owed to {test}"
    elif ahead:
        verdict = f"{test} adds to it in {ahead} of {panels}"
    else:
        verdict = f"nothing can be credited to {test}"
    return (
        f"{rests_on(duel)}, {name_of(duel.row, study)} minus {other_of(duel, study)}: "
        f"{figures_of(duel.main(), study, by_name=False)}; {verdict}.{_in_parts(duel)}"
    )


def _in_parts(duel: Duel) -> str:
    """Say in how many suites and decodings it is ahead by parts of the questions, in content and in style."""
    shown = {f"on {part} types": duel.main(part) for part in PARTS}
    shown |= {f"in {measure.title}": duel.whole(measure) for measure in (CONTENT, STYLE)}
    said = [
        f"{what} in {duel.count('ahead', items)} of {len(items)}"
        + (f" (behind in {behind})" if (behind := duel.count("behind", items)) else "")
        for what, items in shown.items()
        if items
    ]
    fewest = min(duel.main(), key=lambda item: item.ahead / item.data_sets)
    more = " or more" if fewest.ahead < fewest.data_sets else ""
    apart = f" On {fewest.ahead} of {fewest.data_sets} data sets{more} the mean is above 0."
    return (f" Ahead {', '.join(said)}." if said else "") + (apart if fewest.data_sets > 1 else "")
