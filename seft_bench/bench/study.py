"""A matrix's study: which data sets are taken together, which rows are compared, and the files that say the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seft_bench.bench.resolved import Bench
from seft_bench.config import MatrixConfig, MatrixRow, TinyworldSettings, tinyworld_settings
from seft_bench.files import write_atomic
from seft_bench.records import Result
from seft_bench.report.annotation import SEFT, Annotated
from seft_bench.report.pools import Pool
from seft_bench.report.render import RENDERERS, plain_text
from seft_bench.report.study import Compared, Study, compare
from seft_bench.report.study_figures import study_pictures
from seft_bench.report.study_findings import sentences, summary
from seft_bench.report.study_table import reader_tables, wide_table
from seft_bench.report.study_words import REVISER

IN_SHORT = "In short"
"""Heading of what the README quotes of study.md."""


def study_of(bench: Bench, annotated: Annotated) -> Study | None:
    """Gather what a matrix compares over its data sets; None where no row trains SEFT and none is named."""
    matrix = bench.matrix
    methods = methods_of(matrix)
    firsts = {methods[row.name]: row for row in reversed(matrix.rows)}
    compared = compared_of(matrix, methods)
    if not compared:
        return None
    tests = {
        (row, other): test
        for row, others in compared.items()
        for other in others
        if (test := what_is_tested(firsts[row], firsts[other]))
    }
    labels = {name: row.label or name for name, row in firsts.items()}
    lines = {row.name: row.line or row.label or row.name for row in matrix.rows}
    return Study(_pools(bench, annotated), methods, labels, compared, annotated, tests, lines)


def methods_of(matrix: MatrixConfig) -> dict[str, str]:
    """Row -> its line where all rows of that stand on different data sets; else its own name."""
    lines: dict[str, list[MatrixRow]] = {}
    for row in matrix.rows:
        lines.setdefault(row.line or row.name, []).append(row)
    apart = {
        line: all(sum(row.runs_on(data) for row in rows) <= 1 for data in matrix.all_data)
        for line, rows in lines.items()
    }
    return {row.name: line if apart[line] else row.name for line, rows in lines.items() for row in rows}


def compared_of(matrix: MatrixConfig, methods: Mapping[str, str]) -> dict[str, list[str]]:
    """Method -> those that it is compared with: as `compare` says, else SEFT with all others."""
    names = list(dict.fromkeys(methods[row.name] for row in matrix.rows))
    of_seft = [methods[row.name] for row in matrix.rows if row.method == SEFT and row.role == "method"]
    by_rule = [SEFT] if SEFT in names else of_seft[:1]
    given = {methods.get(each.row, each.row): each.others for each in matrix.compare} or dict.fromkeys(by_rule)
    return {
        row: [methods.get(other, other) for other in others or names if methods.get(other, other) != row]
        for row, others in given.items()
    }


VARIANTS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("reviser_kind", "untrained"): (
        "training the reviser",
        ("reviser_kind", "reviser", "preliminary", "copies_share", "instruction"),
    ),
    ("decision", "always"): ("deciding when to revise", ("decision", "statistic", "margin")),
}
"""A setting of the other row and its value -> what the difference tests, where all settings but these are equal."""


def what_is_tested(row: MatrixRow, other: MatrixRow) -> str:
    """Say what the difference of two rows would be owed to: "" where they differ in more than one thing."""
    for (key, value), (test, aside) in VARIANTS.items():
        if other.method == row.method and other.settings.get(key) == value != row.settings.get(key):
            own, others = (
                {name: setting for name, setting in each.settings.items() if name not in aside} for each in (row, other)
            )
            return test if own == others else ""
    return REVISER if other.role == "control" else ""


def _pools(bench: Bench, annotated: Annotated) -> list[Pool]:
    """The tinyworld's data sets by base, number of annotated types, and what else they say; fewest types first."""
    groups: dict[tuple[str, int, str, int | None], list[str]] = {}
    for cell in bench.cells:
        if settings := tinyworld_settings(cell.data):
            key = (cell.base_name, len(annotated.groups[cell.group_name]), _amounts(settings), settings.prompts)
            groups.setdefault(key, []).append(cell.group_name)
    bases = list(dict.fromkeys(key[0] for key in groups))
    pools = [Pool(*key[:3], tuple(dict.fromkeys(own)), key[3]) for key, own in groups.items()]
    return sorted(pools, key=lambda pool: (bases.index(pool.base), pool.types))


def _amounts(settings: TinyworldSettings) -> str:
    said = {name: getattr(settings, name) for name in ("pairs", "sft", "calibration")}
    return ", ".join(f"{amount:,} {name}" for name, amount in said.items() if amount)


def write_study(folder: Path, name: str, results: Sequence[Result], study: Study) -> list[Path]:
    """Write study.md, study.csv and their pictures; nothing where no two rows that are compared have results."""
    found = compare(results, study)
    if not (short := summary(found, study)):
        return []
    write_atomic(folder / "study.csv", RENDERERS["csv"](wide_table(found, study.labels)))
    pictures = study_pictures(folder, results, study, found)
    write_atomic(folder / "study.md", _page(name, short, found, study, pictures))
    return [folder / "study.md", folder / "study.csv", *(path for paths in pictures.values() for path in paths)]


def _page(
    name: str,
    short: Mapping[str, Sequence[str]],
    found: Sequence[Compared],
    study: Study,
    pictures: Mapping[str, Sequence[Path]],
) -> str:
    """The page of a study: the first comparison in short, which the README quotes; the others; all words; tables."""
    first, *others = short
    parts = [f"# {name}: methods compared over data sets", f"## {IN_SHORT}", _list(short[first])]
    parts += [f"![{title}]({path.name})" for title, paths in pictures.items() for path in paths]
    for method in others:
        parts += [f"## {plain_text(study.labels[method])}", _list(short[method])]
    parts += ["## In words", _list(sentences(found, study)), "## Tables"]
    tables = [RENDERERS["md"](table).strip() for table in reader_tables(found, study.labels)]
    return "\n\n".join([*parts, *tables]) + "\n"


def _list(said: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in said)
