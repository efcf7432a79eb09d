"""The Ray executor on clusters of this machine: the local one's tables, also when a node, worker or driver is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seft_bench.files import read_json
from tests import small_matrix

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray", reason='RAY ABSENT: pip install "seft-bench[ray]"')

LONG = {"steps": 40, "questions": 8}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matrix on the local executor."""
    folder = tmp_path_factory.mktemp("local")
    done = small_matrix.run(small_matrix.write_matrix(folder, **LONG), folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs no cell, and two nodes that run one each."""
    from ray.cluster_utils import Cluster

    for name, value in small_matrix.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)  # nodes hand it to their workers
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else anything else that runs here starves the cells
    nodes = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    soon = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 1000,
        "health_check_failure_threshold": 5,
    }  # a lost node is seen soon
    made = Cluster(
        initialize_head=True,
        head_node_args={**nodes, "num_cpus": 0, "include_dashboard": False, "_system_config": soon},
    )
    for _ in range(2):
        made.add_node(**nodes)
    yield made
    made.shutdown()


def ray_options(cluster: Any) -> list[str]:
    return ["--executor", "ray", "--address", cluster.address]


def ray_workers(out: Path) -> list[int]:
    """Processes that hold the lock of a cell of this bench: Ray's workers at work."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            targets = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(target.startswith(str(out / "cells" / ".locks")) for target in targets):
            found.append(int(process.name))
    return found


def raylet_of(pid: int) -> int:
    """The parent of a worker: its node's own process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_node_lost_under_way_gives_the_local_tables(whole: Path, cluster: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = small_matrix.start(small_matrix.write_matrix(tmp_path, **LONG), out, *ray_options(cluster))
    small_matrix.wait_for(
        lambda: [path for path in out.glob("stages/*/train.jsonl") if path.stat().st_size > 200], process
    )
    raylet = raylet_of(small_matrix.wait_for(lambda: ray_workers(out), process)[0])
    node = next(node for node in cluster.worker_nodes if _raylet_pid(node) == raylet)
    cluster.remove_node(node, allow_graceful=False)
    assert process.wait(400) == 0, out.with_suffix(".log").read_text()
    said = out.with_suffix(".log").read_text()
    assert "Ray: 3 nodes, all see" in said
    assert "runs again: its worker or node was lost" in said
    assert "raylet" not in out.with_suffix(".tables").read_text()
    small_matrix.nothing_was_done_twice(out)
    assert small_matrix.tables(out) == small_matrix.tables(whole)


def _raylet_pid(node: Any) -> int:
    [info] = node.all_processes["raylet"]
    return int(info.process.pid)


def test_a_lost_worker_and_then_a_lost_driver_give_the_local_tables(whole: Path, cluster: Any, tmp_path: Path) -> None:
    out, matrix = tmp_path / "out", small_matrix.write_matrix(tmp_path, **LONG)
    process = small_matrix.start(matrix, out, *ray_options(cluster))
    small_matrix.wait_for(
        lambda: [path for path in out.glob("stages/*/train.jsonl") if path.stat().st_size > 200], process
    )
    os.kill(small_matrix.wait_for(lambda: ray_workers(out), process)[0], signal.SIGKILL)
    small_matrix.wait_for(
        lambda: "runs again: its worker or node was lost" in out.with_suffix(".log").read_text(), process
    )
    small_matrix.wait_for(lambda: list(out.glob("stages/*/stage.json")), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("stages/*/stage.json")}
    again = small_matrix.run(matrix, out, *ray_options(cluster))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    small_matrix.nothing_was_done_twice(out)
    assert small_matrix.tables(out) == small_matrix.tables(whole)


def test_a_folder_that_nodes_do_not_see_and_a_cell_too_large_are_refused(cluster: Any, tmp_path: Path) -> None:
    from seft_bench.bench.executors.ray import check_nodes, probe_file
    from seft_bench.errors import InputError

    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        with probe_file(tmp_path / "out") as probe:
            check_nodes(ray, probe)
        with pytest.raises(
            InputError,
            match=(
                r"(?s)cannot run this matrix.*does not see the output folder .*Put --out on a folder that all nodes "
                r"share"
            ),
        ):
            check_nodes(ray, probe)  # the file is gone: as on a node with a folder of its own
    finally:
        ray.shutdown()
    too_large = small_matrix.run(
        small_matrix.write_matrix(tmp_path), tmp_path / "out", *ray_options(cluster), "--gpus-per-cell", "4"
    )
    assert too_large.returncode == 2
    assert "a cell wants 1 CPUs and 4 GPUs, and no node of the Ray cluster has them" in too_large.stderr


def test_a_cell_of_two_processes_on_a_cluster_without_gpus(tmp_path: Path) -> None:
    few = {"seeds": [0], "workers": 1, "gpus": 2}
    done = small_matrix.run(
        small_matrix.write_matrix(tmp_path, **few), tmp_path / "out", "--executor", "ray", "--address", "local"
    )
    assert done.returncode == 0, done.stderr
    records = [read_json(path) for path in (tmp_path / "out").glob("stages/*/stage.json")]
    assert [record["processes"] for record in records] == [2, 2]


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    done = small_matrix.run(
        small_matrix.write_matrix(tmp_path), tmp_path / "out", "--executor", "ray", "--address", "auto"
    )
    assert done.returncode == 2
    assert "no Ray cluster at 'auto'" in done.stderr
    assert "--address local" in done.stderr
