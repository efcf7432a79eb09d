"""Writes the README's excerpt of the tinyworld's leaderboard from results/tinyworld; a test fails where it is stale.

Run by `make docs`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "results" / "tinyworld"
README = REPOSITORY / "README.md"
START, END = "<!-- leaderboard -->", "<!-- /leaderboard -->"

COLUMNS = {
    "tiny-alpacaeval_sampled_win_rate": ("win rate, T 0.7", 1),
    "tiny-alpacaeval_greedy_win_rate": ("win rate, greedy", 1),
    "tiny-mtbench_sampled_score": ("MT score, T 0.7", 2),
    "tiny-mtbench_greedy_score": ("MT score, greedy", 2),
}
FIRST = (" leads with ", "harm to good drafts")
QUOTED = (*FIRST, "SEFT against the start", "in content alone", 'against the control "self-label"')
"""Of the computed findings those that a reader of the first page must not miss, also where SEFT does not lead."""


def excerpt() -> str:
    """Table, what it says, and where the rest is."""
    with open(RESULTS / "leaderboard.csv", encoding="utf-8", newline="") as file:
        everything = list(csv.DictReader(file))
    rows = [row for row in everything if row["seeds"]]  # those that were trained
    head = ["method", *(title for title, _ in COLUMNS.values()), "unannotated prompts", "CPU seconds"]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)]), *(_line(_cells(row)) for row in rows)]
    findings = [
        line for line in (RESULTS / "findings.md").read_text(encoding="utf-8").splitlines() if line.startswith("- ")
    ]
    said = [line for line in findings if any(words in line for words in QUOTED)]
    introduction = (
        f"The tinyworld over {rows[0]['seeds']} seeds: tiny-alpacaeval's win rate (%) and tiny-mtbench's score (1-10), "
        "with 95 % intervals over questions and seeds."
    )
    more = (
        "All columns, with length control and content: [leaderboard](results/tinyworld/leaderboard.md), "
        "[what revising did](results/tinyworld/revisions.md), [all findings](results/tinyworld/findings.md), "
        "[settings that were tried](results/tinyworld-tuning/leaderboard.md). What the figures say, computed from them:"
    )
    first = [line for line in said if any(words in line for words in FIRST)]
    rest = [line for line in said if line not in first]
    folded = [
        "<details><summary>SEFT against the start, in content alone, and against its control</summary>",
        "",
        *rest,
        "",
        "</details>",
    ]
    return "\n".join([introduction, "", *lines, "", _without_a_model(everything), "", more, "", *first, "", *folded])


def _without_a_model(rows: Sequence[Mapping[str, str]]) -> str:
    """What the controls get that no model made: a figure near theirs is worth nothing."""
    controls = [row for row in rows if not row["seeds"] and row["block"].startswith("Controls")]
    columns = [key for key in COLUMNS if "_greedy_" in key]  # their answers do not depend on the decoding
    said = [
        f"{row['label']} {' and '.join(_interval(row, key, COLUMNS[key][1]) for key in columns)}" for row in controls
    ]
    return (
        f"What answers without any model get, win rate and MT score: {'; '.join(said)}. Read every figure against "
        "these, the start's too."
    )


def _cells(row: Mapping[str, str]) -> list[str]:
    label = f"{row['label']} ({row['block'].removesuffix('s')})" if row["block"] else row["label"]
    figures = [_interval(row, key, decimals) for key, (_, decimals) in COLUMNS.items()]
    return [label, *figures, f"{float(row['unannotated_prompts']):,.0f}", f"{float(row['cpu_seconds']):.0f}"]


def _interval(row: Mapping[str, str], key: str, decimals: int) -> str:
    value, low, high = (f"{float(row[name]):.{decimals}f}" for name in (key, f"{key}_low", f"{key}_high"))
    return f"{value} [{low}, {high}]"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def page() -> str:
    """The README with a fresh excerpt."""
    before, _, rest = README.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{excerpt()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
