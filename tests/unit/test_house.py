"""The house rules that no single module can hold: who may import whom, what is loaded when, and that everything shipped
loads.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from seft_bench import config
from seft_bench.config.judges import JUDGE
from seft_bench.errors import InputError
from seft_bench.files import write_jsonl
from seft_bench.judges import JUDGES, open_judge
from seft_bench.records import Base, Data, Output
from seft_bench.report.render import RENDERERS
from seft_bench.stages import recipes
from seft_bench.suites import SUITES, load_suite
from tests.tiny_model import make_tiny_reward_model
from training.loss_table import LOSSES
from training.methods import METHODS, build_stages
from training.shapes import SHAPES

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("seft_bench", "training")

FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli", "__main__"),
    ("checks", "exchange", "bench"),
    ("evaluation",),
    ("pipeline",),
    ("evaluation_files",),
    ("report", "subjects"),
    ("judge_quality", "suites", "stages"),
    ("judges",),
    ("generators",),
    ("training", "formats", "inference", "data", "results", "manifest"),
    ("chat",),
    ("checkpoints",),
    (
        *("files", "ownership", "tinyworld", "config", "stats", "records", "reasoning", "answers", "texts", "errors"),
        "console",
    ),
)
"""The rooms (a package or a module of `seft_bench`, and `training`) from the top floor to the ground. A room imports
rooms below it, or on its own floor; never upwards, and no two rooms import each other. Imports inside functions and for
type checking count too.
"""

STRICTER = {
    "errors": (),
    "texts": (),
    "records": ("texts",),
    "reasoning": (),
    "answers": ("reasoning", "records"),
    "console": ("errors",),
    "files": ("console", "errors", "records", "texts"),
    "ownership": ("errors", "files"),
    "config": ("errors", "files", "texts"),
    "checkpoints": ("console", "errors", "files", "ownership", "records"),
    "chat": ("checkpoints", "errors", "files", "reasoning", "records"),
    "tinyworld": ("records",),
    "stats": ("records", "errors"),
    "training": ("records", "config", "errors", "files", "ownership", "checkpoints", "chat", "console"),
    "generators": (
        *("answers", "chat", "checkpoints", "config", "errors", "files", "formats", "records", "inference", "texts"),
    ),
}
"""Room -> all rooms that it may import."""

ONLY_IMPORTED_BY = {
    "training": ("seft_bench.stages",),
    "seft_bench.tinyworld.rubric": ("seft_bench.judges.rubric", "seft_bench.suites", "seft_bench.tinyworld"),
    "seft_bench.tinyworld.world": ("seft_bench.data", "seft_bench.tinyworld"),
    "seft_bench.tinyworld.data_sets": ("seft_bench.data", "seft_bench.tinyworld"),
    "seft_bench.tinyworld.blank": ("seft_bench.data", "seft_bench.tinyworld"),
    "seft_bench.tinyworld.tasks": ("seft_bench.tinyworld",),
}
"""Module or package -> the only ones of `seft_bench` that may import it: training and generators know nothing of the
tinyworld.
"""

PURE = (
    "seft_bench.stats",
    "seft_bench.texts",
    "seft_bench.report.leaderboard",
    "seft_bench.report.curves",
    "seft_bench.report.pools",
    "seft_bench.report.study",
    "seft_bench.report.study_findings",
    "seft_bench.report.study_table",
    "seft_bench.report.study_words",
    "seft_bench.report.site.encode",
    "seft_bench.judges.parse",
    "seft_bench.judges.delimiters",
    "seft_bench.reasoning",
    "seft_bench.answers",
    "seft_bench.data.contamination",
    "seft_bench.data.conversations",
    "seft_bench.data.roles",
    "seft_bench.data.shapes",
    "seft_bench.data.splitting",
    "seft_bench.tinyworld.rubric",
    "training.losses",
)
IMPURE_MODULES = set(
    "os pathlib time datetime socket subprocess shutil tempfile requests aiohttp http urllib sqlite3 random".split()
)

HEAVY = set(
    "torch transformers tokenizers huggingface_hub accelerate peft trl datasets "
    "openai aiohttp pandas matplotlib vllm ray".split()
)
NUMERIC = {"numpy", "scipy"}


@dataclass(frozen=True)
class Import:
    """One import statement's target; `at_module_level` is False inside functions."""

    target: str
    at_module_level: bool


def module_files() -> dict[str, Path]:
    """Module name -> file, of everything under the two packages."""
    files = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path for path in files
    }


MODULES = module_files()


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def imports_of(name: str) -> list[Import]:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    return list(_imports(tree.body, package, at_module_level=True))


def _imports(body: list[ast.stmt], package: str, at_module_level: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_module_level) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(target, at_module_level) for target in _targets(node, package))
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from _imports(node.body, package, at_module_level=False)
        else:
            inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            children = [
                child
                for child in ast.iter_child_nodes(node)
                if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
            ]
            for child in children:
                below = [child] if isinstance(child, ast.stmt) else child.body
                yield from _imports(below, package, at_module_level and not inside_function)


def _targets(node: ast.ImportFrom, package: str) -> list[str]:
    """`from x import y` names the module x.y where there is one, else x."""
    parents = package.split(".")
    base = (
        ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])
        if node.level
        else str(node.module)
    )
    return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]


def own_imports(name: str) -> list[str]:
    return [item.target for item in imports_of(name) if any(is_in(item.target, package) for package in PACKAGES)]


def test_the_reader_of_imports_sees_what_python_sees() -> None:
    found = {(item.target, item.at_module_level) for item in imports_of("seft_bench.cli.train")}
    assert ("seft_bench.console", True) in found
    assert ("seft_bench.pipeline", False) in found
    assert ("seft_bench.pipeline", True) not in found
    assert "training.loss_table" in own_imports("training.settings")  # relative imports are resolved


def room_of(name: str) -> str:
    """The room of a module: "judges" of seft_bench.judges.parse; "" of the package itself."""
    return "training" if is_in(name, "training") else name.split(".")[1] if "." in name else ""


def imports_between_rooms() -> dict[tuple[str, str], list[str]]:
    """(importing room, imported room) -> the imports, as "module -> module"."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in MODULES:
        for target in own_imports(name):
            rooms = room_of(name), room_of(target)
            if "" not in rooms and rooms[0] != rooms[1]:
                found.setdefault(rooms, []).append(f"{name} -> {target}")
    return found


def wrong_directions(between: dict[tuple[str, str], list[str]]) -> list[str]:
    """A line for each import that runs upwards, each pair of rooms that import each other, and each room beyond what it
    may import.
    """
    level = {room: depth for depth, floor in enumerate(FLOORS) for room in floor}
    wrong = []
    for (room, other), imports in sorted(between.items()):
        shown = f"{room} -> {other}: {'; '.join(imports)}"
        if level[other] < level[room]:
            wrong.append(f"upwards: {shown}")
        if room < other and (other, room) in between:
            wrong.append(f"each other: {shown}; {'; '.join(between[other, room])}")
        if other not in STRICTER.get(room, (other,)):
            wrong.append(f"not allowed: {shown}")
    return wrong


def test_rooms_import_only_downwards() -> None:
    between = imports_between_rooms()
    rooms = {room for pair in between for room in pair}
    assert rooms <= {room for floor in FLOORS for room in floor}, "a room without a floor: add it to FLOORS"
    assert set(STRICTER) | {name for floor in FLOORS for name in floor} <= {room_of(name) for name in MODULES}, (
        "a name that no longer exists"
    )
    wrong = wrong_directions(between)
    assert not wrong, "\n".join(wrong)


def test_a_wrong_direction_is_seen() -> None:
    assert wrong_directions({("files", "cli"): ["a -> b"]}) == [
        "upwards: files -> cli: a -> b",
        "not allowed: files -> cli: a -> b",
    ]
    mutual = {("judges", "suites"): ["a -> b"], ("suites", "judges"): ["b -> a"]}
    assert wrong_directions(mutual) == [
        "upwards: judges -> suites: a -> b",
        "each other: judges -> suites: a -> b; b -> a",
    ]


def test_what_only_some_may_import() -> None:
    wrong = []
    for name in MODULES:
        for target, importers in ONLY_IMPORTED_BY.items():
            if is_in(name, "seft_bench") and not any(is_in(name, importer) for importer in importers):
                wrong += [
                    f"{name} imports {found}; only {importers} may"
                    for found in own_imports(name)
                    if is_in(found, target)
                ]
    assert not wrong, "\n".join(wrong)


def test_only_stages_reaches_training() -> None:
    """By name too: training is imported through importlib, which no import statement shows."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items() if is_in(name, "seft_bench")}
    assert [name for name, text in texts.items() if "import_module" in text and "_training" in text] == [
        "seft_bench.stages.door"
    ]


def test_training_imports_its_own_modules_relatively() -> None:
    """The wheel ships it as seft_bench._training, where `import training` would find nothing."""
    for name, path in MODULES.items():
        if is_in(name, "training"):
            nodes = [
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
            ]
            absolute = [
                ast.unparse(node)
                for node in nodes
                if getattr(node, "level", 0) == 0 and "training" in ast.unparse(node).split()[1].split(".")
            ]
            assert not absolute, f"{name}: {absolute}"


def test_pure_modules_touch_no_file_network_or_clock() -> None:
    for package in PURE:
        members = [name for name in MODULES if is_in(name, package)]
        assert members, f"{package} no longer exists"
        for name in members:
            assert not {item.target.partition(".")[0] for item in imports_of(name)} & IMPURE_MODULES, name
            calls = [node for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Call)]
            assert not [call for call in calls if ast.unparse(call.func) in ("open", "print", "input")], name


def test_nothing_heavy_at_module_level() -> None:
    wrong = []
    for name in MODULES:
        if is_in(name, "seft_bench"):
            forbidden = HEAVY if is_in(name, "seft_bench.stats") else HEAVY | NUMERIC
            heavy = {
                item.target
                for item in imports_of(name)
                if item.at_module_level and item.target.partition(".")[0] in forbidden
            }
            wrong += [f"{name} imports {target} at module level" for target in sorted(heavy)]
    assert not wrong, "\n".join(wrong)


def test_every_module_imports() -> None:
    for name in MODULES:
        assert importlib.import_module(name).__name__ == name


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in memory after a statement, in a process of its own."""
    code = (
        f"import sys, json; {statement}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    return set(
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout
        )
    )


@pytest.mark.parametrize(
    "module",
    [
        *("cli.main", "config", "records", "evaluation.plan", "evaluation.score_files", "bench.run"),
        *("pipeline", "judges", "suites", "report.leaderboard"),
    ],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert not loaded_after(f"import seft_bench.{module}") & HEAVY


def test_the_command_line_loads_no_arrays_either() -> None:
    assert not loaded_after("import seft_bench.cli.main") & NUMERIC


def test_planning_loads_no_arrays_either() -> None:
    modules = ("bench.resolved", "bench.plan", "bench.shown", "evaluation.plan", "evaluation.cost_table")
    assert not loaded_after(f"import {', '.join(f'seft_bench.{module}' for module in modules)}") & NUMERIC


# What ships


def test_every_suite_loads() -> None:
    for name in sorted(config.shipped("suites")):
        suite = load_suite(name)
        assert suite.config.name == name
        assert config.load_judge(suite.config.default_judge), name


def test_every_judge_loads() -> None:
    for name in sorted(config.shipped("judges")):
        judge = config.load_judge(name)
        assert judge.name == name
        if judge.kind == "vllm":  # its id is that of weights, which only users have
            with pytest.raises(InputError, match="nothing is downloaded without being asked"):
                _ = open_judge(judge).id
        elif getattr(judge, "retired_on", None) is None:
            assert open_judge(judge).id.startswith(f"{name}-")


def test_every_matrix_loads_and_its_rows_build() -> None:
    for name in sorted(config.shipped("matrices")):
        matrix = config.load_matrix(name)
        assert len({row.name for row in matrix.rows}) == len(matrix.rows), name
        for row in matrix.rows:
            assert build_stages(row.method, row.settings, matrix.checkpoints)[-1].kind in ("train", "pair"), (
                name,
                row.name,
            )
        for suite in matrix.suites:
            assert config.load_judge(matrix.judge or config.load_suite(suite).default_judge), (name, suite)


def test_every_recipe_loads_and_builds() -> None:
    for name in sorted(recipes.shipped_recipes()):
        recipe = recipes.load_recipe(name)
        assert recipe.name == name
        assert build_stages(recipe.method, recipe.settings, 2), name


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_builds_stages_that_fit_together(name: str) -> None:
    """Inputs come from the base, from data, or from an earlier stage; losses and shapes exist."""
    method, earlier = METHODS[name], set[str]()
    for stage in method.stages(method.settings(), 2):
        assert stage.name not in earlier
        for source in stage.inputs.values():
            assert isinstance(source, Data) or source in {Base(), *map(Output, earlier)}, source
        if stage.kind == "train":
            assert stage.shape.name in SHAPES
            assert stage.loss in LOSSES
        earlier.add(stage.name)


def test_every_loader_of_a_suite_opens_one() -> None:
    settings = config.load_suite("mtbench")
    for loader in SUITES.values():
        assert loader(settings).config is settings


def test_every_loader_of_a_judge_opens_one(tmp_path: Path) -> None:
    judgments, model = tmp_path / "judgments.jsonl", make_tiny_reward_model(tmp_path / "model")
    write_jsonl(judgments, [{"question_id": 81, "model": "m", "judgment": "[[7]]", "score": 7, "turn": 1}])
    needed = {"rubric": {}, "replay": {"path": str(judgments)}}
    for kind, loader in JUDGES.items():
        settings = {"name": "mine", "kind": kind, **needed.get(kind, {"model": str(model)})}
        judge = loader(JUDGE.validate_python(settings), None)
        for method in ("check_questions", "check", "judge", "calls", "close"):
            assert callable(getattr(judge, method)), kind


def test_every_kind_of_config_has_its_class() -> None:
    assert {suite.protocol for suite in map(config.load_suite, config.shipped("suites"))} <= set(SUITES)
    assert {judge.kind for judge in map(config.load_judge, config.shipped("judges"))} <= set(JUDGES)
    assert {"md", "csv", "latex", "html", "json"} <= set(RENDERERS)


# Tests


def test_no_test_module_imports_another() -> None:
    """Shared code is a fixture of a conftest.py, or a helper module, whose name does not begin with test_."""
    files = sorted((REPOSITORY / "tests").rglob("*.py"))
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in files
        for name in sorted(imported_test_modules(path.read_text(encoding="utf-8")) & {file.stem for file in files})
    ]
    assert not wrong, "\n".join(wrong)


def imported_test_modules(text: str) -> set[str]:
    """Parts of imported names that begin with test_, in statements and in code that a test hands to a process."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    statements = [ast.unparse(node) for node in nodes] + re.findall(r"(?:from|import) tests[\w.]*", text)
    return {part for statement in statements for part in re.findall(r"\w+", statement) if part.startswith("test_")}


def test_an_import_of_a_test_module_is_seen() -> None:
    assert imported_test_modules("from tests.unit import test_a as a") == {"test_a"}
    assert imported_test_modules("import tests.unit.test_b") == {"test_b"}
    assert imported_test_modules('code = "from tests.unit.test_c import ROWS"') == {"test_c"}
    assert imported_test_modules("from tests.tiny_model import make_tiny_model") == set()
