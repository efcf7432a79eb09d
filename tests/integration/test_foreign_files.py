"""The user's files in our folders, and our commands in the user's: nothing of theirs is removed or overwritten."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from seft_bench.checkpoints.steps import last_checkpoint
from seft_bench.stages.holds import RUN
from tests.integration.cli import Seen, good, seft_bench
from tests.small_matrix import run_here, write_matrix

THEIRS = "mine.txt"
"""Put into every folder."""
ODD = (".git/config", "data/mine", "checkpoints/best.pt", "checkpoints/best/model.safetensors", "stages/notes.md")
"""Where users keep things in a run's folder."""


def scatter(folder: Path) -> dict[Path, bytes]:
    """Put a file of the user's into every folder below, and some into folders of theirs; return what is whose."""
    folder.mkdir(parents=True, exist_ok=True)
    everywhere = [path for path in [folder, *folder.rglob("*")] if path.is_dir() and not path.is_symlink()]
    placed = [inside / THEIRS for inside in everywhere] + [folder / name for name in ODD]
    for path in placed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"years of work, {path}")
    return {path: path.read_bytes() for path in placed}


def untouched(theirs: dict[Path, bytes]) -> bool:
    missing = [path for path in theirs if not path.exists()]
    assert not missing
    return all(path.read_bytes() == content for path, content in theirs.items())


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def train(*options: str, steps: int = 2) -> Seen:
    return seft_bench("train", "method=sft", f"settings.start.max_steps={steps}", "--out", "run", *options)


def without_marks(folder: Path) -> None:
    """Make a folder what it was before there were marks."""
    for mark in folder.rglob(".seft-bench-*"):
        mark.unlink()


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_folder_with_files_of_the_users_keeps_them(desk: Path, fresh: tuple[str, ...]) -> None:
    theirs = scatter(desk / "run")
    seen = train(*fresh)
    assert untouched(theirs)
    assert seen.status == (2 if fresh else 0), seen.err  # --fresh starts a run again, and there is none


def test_fresh_removes_the_run_and_nothing_else(desk: Path) -> None:
    good(train())
    theirs = scatter(desk / "run")
    assert "mine.txt" in good(train("--fresh", steps=3)).err
    assert untouched(theirs)
    assert RUN.remove(desk / "run") is False
    assert files_below(desk / "run") == set(theirs)


def test_all_of_a_run_is_on_the_list_of_what_may_be_removed(desk: Path) -> None:
    good(train())
    assert RUN.remove(desk / "run")


def test_other_runs_of_a_stage_do_not_take_the_users_files_with_them(desk: Path) -> None:
    """A stage that starts again clears what a killed one left."""
    good(train())
    [stage] = (desk / "run" / "stages").glob("start-*")
    theirs = scatter(desk / "run")
    for name in ("stage.json", "summary.json"):
        (stage / name).unlink()
    (desk / "run" / "manifest.json").unlink()
    good(train())
    assert untouched(theirs)


@pytest.mark.parametrize("name", ["recipe.yaml", "train.jsonl", "manifest.json", "checkpoints/step-000002/config.json"])
@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_folder_that_is_not_ours_is_refused_where_it_holds_what_we_would_write(
    desk: Path, name: str, fresh: tuple[str, ...]
) -> None:
    mine = desk / "run" / name
    mine.parent.mkdir(parents=True)
    mine.write_text('{"mine": 1}')
    seen = good(train(*fresh), status=2)
    assert name.partition("/")[0] in seen.err
    assert mine.read_text() == '{"mine": 1}'
    assert files_below(desk / "run") == {mine}


def test_runs_from_before_there_were_marks_go_on(desk: Path) -> None:
    good(train())
    without_marks(desk / "run")
    assert good(train()).out
    (desk / "run" / "manifest.json").unlink()  # killed while it was published, or before
    theirs = scatter(desk / "run")
    assert good(train()).out
    assert untouched(theirs)
    shutil.rmtree(desk / "run" / "stages")  # as in a matrix, whose stages lie elsewhere
    (desk / "run" / "manifest.json").unlink()
    without_marks(desk / "run")
    assert good(train()).out


@pytest.fixture(scope="module")
def once_benched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benched")
    with contextlib.chdir(folder):
        good(run_here(write_matrix(Path(), steps=2, seeds=[0]), Path("out"), "--results", "out/results"))
    return folder


@pytest.fixture
def benched(desk: Path, once_benched: Path) -> tuple[Path, Path]:
    """A matrix that was run on the desk: its folders of runs and of results."""
    shutil.copytree(once_benched, desk, dirs_exist_ok=True)
    return Path("out"), Path("out/results")


def test_a_matrix_takes_back_its_own_runs_and_results_only(
    benched: tuple[Path, Path], cells_in_this_process: None
) -> None:
    out, results = benched
    without_marks(out)
    theirs = scatter(out)
    changed = write_matrix(Path(), steps=3, seeds=[0])
    good(run_here(changed, out, "--results", str(results)))
    assert untouched(theirs)
    assert '"max_steps": 3' in (results / "matrix.json").read_text()


@pytest.mark.parametrize("name", ["cells/start-seed0/cell.json", "results/findings.md", "results/leaderboard.md"])
def test_a_matrix_refuses_folders_that_hold_what_it_would_write(desk: Path, name: str) -> None:
    mine = desk / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    matrix = write_matrix(desk, steps=2, seeds=[0])
    seen = good(run_here(matrix, desk / "out", "--results", str(desk / "out" / "results")), status=2)
    assert Path(name).name in seen.err
    assert files_below(desk / "out") == {mine}


def test_eval_report_and_export_leave_the_users_files(desk: Path, benched: tuple[Path, Path]) -> None:
    out, results = benched
    arguments = ("--results", str(results), "--runs", str(out))
    good(seft_bench("report", *arguments, "--figures", "figures"))
    theirs = scatter(desk / "report") | scatter(desk / "figures") | scatter(results)
    theirs[desk / "report" / "data" / "mine.js"] = b"my own script"
    (desk / "report" / "data" / "mine.js").write_bytes(b"my own script")
    good(seft_bench("report", *arguments, "--figures", "figures"))
    good(seft_bench("eval", str(out / "cells" / "start-seed0"), "--suite", "few.yaml", *arguments[:2]))
    assert untouched(theirs)
    shutil.copytree(desk / "report", desk / "again")
    for path in theirs:
        if path.is_relative_to(desk / "report"):
            (desk / "again" / path.relative_to(desk / "report")).unlink()
    good(seft_bench("report", *arguments, "--out", "fresh"))
    left, wanted = (
        {path.relative_to(folder) for path in files_below(folder)} for folder in (Path("again"), Path("fresh"))
    )
    assert left == wanted  # of an older report nothing stays


@pytest.mark.parametrize("option", ["--results", "--figures", "--out"])
def test_reports_and_results_are_not_written_over_files_of_the_users(
    desk: Path, benched: tuple[Path, Path], option: str
) -> None:
    out, results = benched
    name = {"--results": "leaderboard.md", "--figures": "curves.png", "--out": "index.html"}[option]
    (desk / "mine").mkdir()
    (desk / "mine" / name).write_text("my own")
    if option == "--results":
        seen = seft_bench("eval", str(out / "cells" / "start-seed0"), "--suite", "few.yaml", "--results", "mine")
    else:
        seen = seft_bench("report", "--results", str(results), "--runs", str(out), option, "mine")
    assert name in good(seen, status=2).err
    assert files_below(desk / "mine") == {desk / "mine" / name}


def test_export_is_not_written_over_files_of_the_users(desk: Path, benched: tuple[Path, Path]) -> None:
    run = str(benched[0] / "cells" / "start-seed0")
    good(seft_bench("eval", run, "--suite", "few.yaml"))
    export = ("export", "--format", "fastchat", "--suite", "few.yaml", "--out", "files")
    written = good(seft_bench(*export)).out.split()
    theirs = scatter(desk / "files")
    good(seft_bench(*export))
    assert untouched(theirs)
    for path in map(Path, written):
        path.write_text('{"mine": 1}')
        good(seft_bench(*export), status=2)
        assert path.read_text() == '{"mine": 1}'
        path.unlink()


def test_a_checkpoint_of_somebody_elses_beside_a_runs_own_is_not_the_runs(benched: tuple[Path, Path]) -> None:
    run = benched[0] / "cells" / "start-seed0"
    shutil.copytree(run / "checkpoints" / "step-000002", run / "checkpoints" / "best")
    assert last_checkpoint(run) == run / "checkpoints" / "step-000002"
