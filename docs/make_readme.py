"""Writes the README's headline from results; a test fails where it is stale. Run by `make docs`.

Where results/annotation holds a study: its question, what the figures answer, and the picture. Else an excerpt of the
tinyworld's leaderboard.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "results" / "tinyworld"
STUDY = REPOSITORY / "results" / "annotation"
README = REPOSITORY / "README.md"
START, END = "<!-- leaderboard -->", "<!-- /leaderboard -->"

COLUMNS = {
    "tiny-alpacaeval_sampled_win_rate": ("win rate, T 0.7", 1),
    "tiny-alpacaeval_greedy_win_rate": ("win rate, greedy", 1),
    "tiny-mtbench_sampled_score": ("MT score, T 0.7", 2),
    "tiny-mtbench_greedy_score": ("MT score, greedy", 2),
}
FIRST = (" leads with ", "harm to good drafts")
PICTURE = (
    "![Scores on the tinyworld against training step and against unannotated prompts](results/tinyworld/curves.png)"
)
QUOTED = (*FIRST, "SEFT against the start", "in content alone", 'against the control "self-label"')
"""Of the computed findings those that a reader of the first page must not miss, also where SEFT does not lead."""


QUESTION = (
    "**Question.** Does a policy that learns from revised drafts (SEFT) get better than one that learns from what can "
    "be had without a reviser (its own labels, the best of its samples, the annotated pairs alone), and does that "
    "depend on how many kinds of task are annotated?"
)
ANSWER = (
    "**Answer**, read off [the study's figures]({page}) by code: differences in win rate (points) and grade, with 95 % "
    "intervals over questions and runs, corrected for all methods compared."
)
MORE = (
    "[All comparisons, in words and tables]({page}); every method on the tinyworld as it is: "
    "[leaderboard](results/tinyworld/leaderboard.md), [what its figures say](results/tinyworld/findings.md), "
    "[what revising did](results/tinyworld/revisions.md); [what was tried](docs/findings.md), the failed tries too."
)


def excerpt(study: Path = STUDY) -> str:
    """The headline: of the study where there is one."""
    return study_excerpt(study) if (study / "study.md").exists() else leaderboard_excerpt()


def study_excerpt(folder: Path) -> str:
    """Question, answer and picture, from the part of study.md that says it in short."""
    text = (folder / "study.md").read_text(encoding="utf-8")
    short = text.partition("## In short\n")[2].partition("\n## ")[0]
    answers = [line for line in short.splitlines() if line.startswith("- ")]
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", short)
    where = f"results/{folder.name}"
    shown = [f"![{title}]({where}/{name})" for title, name in pictures[:1]]
    page = f"{where}/study.md"
    return "\n\n".join([QUESTION, ANSWER.format(page=page), "\n".join(answers), *shown, MORE.format(page=page)])


def leaderboard_excerpt() -> str:
    """Picture, table, what it says, and where the rest is."""
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
    return "\n".join(
        [PICTURE, "", introduction, "", *lines, "", _without_a_model(everything), "", more, "", *first, "", *folded]
    )


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
    """The README with a fresh headline."""
    before, _, rest = README.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    return f"{before}{START}\n{excerpt()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(page(), encoding="utf-8")
