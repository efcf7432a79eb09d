"""The docs cannot rot: commands parse, links lead somewhere, examples are accepted, docs/cli.md is fresh."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from seft_bench import config
from seft_bench.bench.study import write_study
from seft_bench.cli.main import app
from seft_bench.config.judges import JUDGE
from seft_bench.inference.prices import PriceTable
from seft_bench.report.published_files import PublishedConfig
from seft_bench.stages.recipes import load_recipe
from tests.integration.cli import REPOSITORY, seft_bench
from tests.tiny_model import make_tiny_model
from tests.unit.study_data import AHEAD, LEVEL, STUDY, world
from training.methods import METHODS, build_stages
from training.stages import data_sets

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "results").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE_COMMAND = re.compile(r"`seft-bench ([a-z]+(?: [a-z]+)?)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def commands() -> list[tuple[str, str]]:
    """(page, command line) of every console block."""
    lines = [(page.name, line) for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    return [(page, line.removeprefix("$ ")) for page, line in lines if line.startswith("$ ")]


def parse(arguments: list[str]) -> Any:
    """The command that the arguments name, with its options checked, not run.

    Raises:
        Exception: click's own, for an unknown command or option, or a missing argument.
    """
    command, context = typer.main.get_command(app), None
    while below := getattr(command, "commands", None):
        assert arguments, "a command is missing"
        assert arguments[0] in below, f"no command {arguments[0]!r}; there are {', '.join(below)}"
        command, arguments = below[arguments[0]], arguments[1:]
    return command.make_context("docs", list(arguments), parent=context)


def test_the_parser_refuses_what_the_program_refuses() -> None:
    assert parse(["train", "method=sft"]).params["recipe"] == "method=sft"
    for wrong in (["train", "--no-such-option"], ["score", "--suite", "mtbench"], ["demo", "--seeds", "none"]):
        with pytest.raises(Exception, match=r"[Nn]o such option|Missing|valid integer"):
            parse(wrong)
    with pytest.raises(AssertionError, match="no command"):
        parse(["frobnicate"])


def refusal(line: str) -> str:
    """Say what is wrong with a command line of a console block; nothing where it can be run."""
    program, *arguments = shlex.split(line)
    if program == "torchrun" and "seft_bench" in arguments:
        program, arguments = "seft-bench", arguments[arguments.index("seft_bench") + 1 :]
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        return "" if arguments[0] in targets else f"no target {arguments[0]}"
    if program != "seft-bench":
        return "" if program in ("export", "pip") else "an unknown program"
    try:
        parse(arguments)
    except Exception as error:
        return str(error) or type(error).__name__
    return ""


def test_commands_in_console_blocks_parse() -> None:
    lines = commands()
    assert len(lines) > 50
    wrong = [f"{page}: {line}: {said}" for page, line in lines if (said := refusal(line))]
    assert not wrong, "\n".join(wrong)


def test_a_wrong_line_is_seen() -> None:
    for line in (
        "torchrun -m seft_bench train --no-such",
        "seft-bench frobnicate",
        "seft-bench train --no-such-option",
        "make coffee",
        "rm -rf runs",
    ):
        assert refusal(line), line


def test_commands_in_the_text_exist() -> None:
    root, wrong = typer.main.get_command(app).commands, []
    for page in PAGES:
        for name in INLINE_COMMAND.findall(page.read_text(encoding="utf-8")):
            first, *rest = name.split()
            below = getattr(root.get(first), "commands", None)
            if first not in root or (rest and below is not None and rest[0] not in below):
                wrong.append(f"{page.name}: seft-bench {name}")
    assert not wrong, "\n".join(wrong)


def links() -> list[tuple[Path, str, str]]:
    """(page, path, anchor) of every link that stays in the repository."""
    found = [(page, link) for page in PAGES for link in LINK.findall(page.read_text(encoding="utf-8"))]
    return [(page, *link.partition("#")[::2]) for page, link in found if "://" not in link]


def test_links_lead_somewhere() -> None:
    wrong = [f"{page.name}: {path}" for page, path, _ in links() if path and not (page.parent / path).exists()]
    assert not wrong, "\n".join(wrong)


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


def test_anchors_name_headings() -> None:
    wrong = [
        f"{page.name}: {path}#{anchor}"
        for page, path, anchor in links()
        if anchor and anchor not in headings((page.parent / path) if path else page)
    ]
    assert not wrong, "\n".join(wrong)


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_fresh() -> None:
    module = script("make_cli")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run `make docs`"


def test_the_readmes_headline_is_the_one_in_results() -> None:
    module = script("make_readme")
    assert module.README.read_text(encoding="utf-8") == module.page(), "run `make docs`"
    assert "SEFT against the start" in module.leaderboard_excerpt()
    assert " leads with " in module.leaderboard_excerpt()


def test_the_headline_is_question_answer_and_picture_of_a_study_where_there_is_one(tmp_path: Path) -> None:
    module, folder = script("make_readme"), tmp_path / "annotation"
    assert module.excerpt(folder) == module.leaderboard_excerpt()
    folder.mkdir()
    results = [*world(AHEAD, ("note", "kind")), *world(LEVEL, ("all",))]
    written = write_study(folder, "annotation", results, STUDY)
    assert {path.name for path in written} == {"study.md", "study.csv", "annotation.png"}
    found = module.excerpt(folder)
    blocks = found.split("\n\n")
    assert [block[:12] for block in blocks] == [
        "**Question.*",
        "**Answer**, ",
        "- With 1 ann",
        "![Scores aga",
        "[All compari",
    ]
    assert len(found.splitlines()) <= 12
    pays, ties, unclaimed = blocks[2].splitlines()
    assert '"SEFT" pays: ahead of "self-label"' in pays
    assert '"SEFT" ties: not told apart from "self-label"' in ties
    assert unclaimed.startswith('- Not claimed of "SEFT": that training the reviser adds to the policy')
    assert "(results/annotation/annotation.png)" in blocks[3]
    assert "results/annotation/study.md" in blocks[4]


def test_every_room_of_the_map_exists_and_every_room_is_on_it() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = text[text.index("## Where everything is") : text.index("## What this does not claim")]
    first_cells = re.findall(r"^\| ([^|]*`[^|]*) \|", table, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    assert not {name for name in named - {"runs/"} if not is_on_disk(name)}
    rooms = {
        path.name + "/" * path.is_dir() for path in (REPOSITORY / "seft_bench").iterdir() if path.name[0] not in "._"
    }
    mentioned = set(re.findall(r"`([^`]+)`", table))
    assert rooms <= mentioned


def is_on_disk(name: str) -> bool:
    return (REPOSITORY / name).exists() or (REPOSITORY / "seft_bench" / name).exists()


# Examples


CONFIGS = {
    "judge": JUDGE,
    "prices": PriceTable,
    "suite": config.SuiteConfig,
    "recipe": config.RecipeConfig,
    "matrix": config.MatrixConfig,
    "published": PublishedConfig,
    "server": config.ServedModelConfig,
}
TOLD_BY = {
    "rows": "matrix",
    "sets": "published",
    "prices": "prices",
    "method": "recipe",
    "decodings": "suite",
    "send_seed": "server",
}
"""A key that only one kind of file has -> that kind; the rest are judges."""


def yaml_blocks() -> list[tuple[str, str]]:
    return [(page.name, block) for page in PAGES for block in blocks(page, "yaml")]


def _whole(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The example itself, or the recipe that it makes of the one that it extends."""
    if "extends" not in values:
        return values
    (folder / "example.yaml").write_text(yaml.safe_dump(values))
    return load_recipe(str(folder / "example.yaml")).model_dump()


def test_yaml_examples_are_accepted(tmp_path: Path) -> None:
    for page, block in yaml_blocks():
        values = _whole(yaml.safe_load(block), tmp_path)
        kind = next((kind for key, kind in TOLD_BY.items() if key in values), "judge")
        loaded = config.validate(values, CONFIGS[kind], f"{page}: {block}")
        for row in [loaded] if kind == "recipe" else loaded.rows if kind == "matrix" else []:
            assert build_stages(row.method, row.settings, 2), f"{page}: {block}"


def test_the_workflow_runs_commands_that_exist_and_holds_no_key() -> None:
    text = (REPOSITORY / "docs" / "examples" / "regression-check.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["check"]["steps"]
    ran = [
        shlex.split(step["run"].partition("|")[0])[1:] for step in steps if step.get("run", "").startswith("seft-bench")
    ]
    assert [parse(arguments).info_name for arguments in ran] == ["docs", "docs"]
    assert [arguments[0] for arguments in ran] == ["eval", "check"]
    assert [step["env"] for step in steps if "env" in step] == [{"OPENAI_API_KEY": "${{ secrets.OPENAI_API_KEY }}"}]


def documented_data() -> dict[str, list[dict[str, Any]]]:
    """Data set -> the rows that docs/data.md shows for it."""
    text = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\w+)\.jsonl\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    return {
        name: [json.loads(line) for _, body in BLOCK.findall(section) for line in body.splitlines()]
        for name, section in sections
    }


def test_every_data_set_that_a_method_reads_is_documented() -> None:
    read = {name: data_sets(build_stages(name, {}, 1)) for name in METHODS}
    for name in ("kto", "apo-zero-labelled"):
        read[name] += data_sets(build_stages(name, {"labels": "unpaired"}, 1))
    assert set(documented_data()) == {name for names in read.values() for name in names}
    text = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    for name, readers in re.findall(r"^\| `(\w+)\.jsonl` \| .*? \| (.*) \|$", text, re.MULTILINE):
        named = set(re.findall(r"`([\w-]+)`", readers))
        reading = {method for method, names in read.items() if name in names}
        assert named == (set(METHODS) - reading if readers.startswith("all but") else reading)


@pytest.mark.parametrize("method", ["seft", "self-label", "orpo", "pretrain"])
def test_the_documented_rows_train(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of docs/data.md as a user's own folder, under a model of the user's own.

    Files that the method does not read are not there.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    documented = documented_data()
    for name in data_sets(build_stages(method, {}, 1)):
        rows = documented[name]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    make_tiny_model(tmp_path / "model", with_weights=method != "pretrain")
    steps = [
        f"settings.{name}.max_steps=2"
        for name in METHODS[method].settings.model_fields
        if name in ("train", "start", "policy", "preliminary", "reviser", "teacher")
    ]
    sampling = ["settings.drafts.max_new_tokens=4"] if "drafts" in METHODS[method].settings.model_fields else []
    seen = seft_bench("train", f"method={method}", "base=./model", "data=data", f"name={method}", *steps, *sampling)
    assert seen.status == 0, seen.err
    assert len(seen.out.split()) >= 1
