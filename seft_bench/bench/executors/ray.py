"""The Ray executor: one task a cell, on the nodes of a cluster.

A cell whose node or worker is lost runs again elsewhere. Cells meet at the output folder, which every node must see
under the same path. Nodes train and answer; the driver judges, so the response store stays on its machine and no key
leaves it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seft_bench import __version__
from seft_bench.bench.events import Answered, Failure, RunsAgain, Tick, WorkerEvent
from seft_bench.bench.executors import TICK_SECONDS, Events, ExecutorSettings
from seft_bench.bench.executors.worker import Job, job_of, run_job
from seft_bench.bench.matrix import Cell
from seft_bench.bench.resolved import Bench
from seft_bench.console import note, wait_silently
from seft_bench.errors import InputError

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a cluster that is started here: only events and small results pass through Ray."""
NODE_TIMEOUT_SECONDS = 120.0
"""For a node to start a worker and say whether it sees the output folder."""


def run_cells(bench: Bench, todo: Sequence[Cell], settings: ExecutorSettings) -> Events:
    """Train and answer cells as Ray tasks; yields what happens.

    Raises:
        InputError: no cluster, a node that does not see the output folder, or a cell that fits on no node.
    """
    ray = import_ray()
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what happens to nodes on stdout, which is the data's
        _connect(ray, settings, largest=max((cell.gpus for cell in todo), default=1))
        try:
            with probe_file(bench.out) as probe:
                check_nodes(ray, probe)
                demands = {gpus: demand_of(ray, settings, gpus) for gpus in {cell.gpus for cell in todo}}
                jobs = [(job_of(bench, cell, demands[cell.gpus]["num_cpus"]), demands[cell.gpus]) for cell in todo]
                yield from _follow(ray, jobs, probe, settings.retries)
        finally:
            ray.shutdown()  # ends our tasks; a cluster that was not started here stays


def import_ray() -> Any:
    """The ray package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError('the Ray executor needs Ray, which is not installed: pip install "seft-bench[ray]"') from None
    return ray


def _connect(ray: Any, settings: ExecutorSettings, largest: int) -> None:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default, and its warning about it
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if settings.address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # as on the local executor; Ray's own 15 lets anything else go first
        os.environ.setdefault("RAY_worker_niceness", "0")
        cpus = max(settings.workers * (settings.cpus_per_cell or 1), largest)
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet
        )
        return
    try:
        ray.init(address=settings.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or ["?"])[0]
        raise InputError(
            f"no Ray cluster at {settings.address!r} ({first}). `--address local` starts one here; `ray start --head` "
            "starts one by hand."
        ) from None


# Before anything runs: do all nodes see the folder, does a cell fit?


@contextlib.contextmanager
def probe_file(out: Path) -> Iterator[dict[str, str]]:
    """Write a file with a word that nobody could guess: who reads it sees the same folder."""
    probe = {"path": str(out.resolve() / f".shared-{uuid.uuid4().hex}"), "word": uuid.uuid4().hex}
    out.mkdir(parents=True, exist_ok=True)
    Path(probe["path"]).write_text(probe["word"], encoding="utf-8")
    try:
        yield probe
    finally:
        Path(probe["path"]).unlink(missing_ok=True)


def _sees(probe: Mapping[str, str]) -> bool:
    try:
        return Path(probe["path"]).read_text(encoding="utf-8") == probe["word"]
    except OSError:
        return False


def _look(probe: Mapping[str, str]) -> dict[str, Any]:
    """Look around on a node."""
    return {"sees": _sees(probe), "version": __version__, "python": sys.version.split()[0]}


def check_nodes(ray: Any, probe: Mapping[str, str]) -> None:
    """Ask every node at once.

    Raises:
        InputError: naming the nodes that do not see the output folder, or that run another seft-bench.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    looks = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        looks.append(ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(probe))
    found = [(node, _problem(ray, look, probe)) for node, look in zip(nodes, looks, strict=True)]
    problems = [f"{node['NodeManagerAddress']} ({node['NodeID'][:8]}): {problem}" for node, problem in found if problem]
    if problems:
        raise InputError(
            "the Ray cluster cannot run this matrix:\n" + "\n".join(f"  {problem}" for problem in problems)
        )
    note(f"Ray: {len(nodes)} node{'s' if len(nodes) > 1 else ''}, all see {Path(probe['path']).parent}")


def _problem(ray: Any, look: Any, probe: Mapping[str, str]) -> str:
    """Return the node's problem; "" where there is none."""
    try:
        said = ray.get(look, timeout=NODE_TIMEOUT_SECONDS)
    except Exception as error:  # whatever keeps a node from answering: it is told, not raised
        return f"a worker there cannot run seft-bench: {(str(error).strip().splitlines() or ['?'])[-1]}"
    if not said["sees"]:
        return (
            f"does not see the output folder {Path(probe['path']).parent}. Put --out on a folder that all nodes share "
            "under the same path"
        )
    if said["version"] != __version__:
        return f"has seft-bench {said['version']}, the driver {__version__}"
    return ""


def demand_of(ray: Any, settings: ExecutorSettings, gpus_of_cell: int) -> dict[str, Any]:
    """Return the resources that a cell asks of a node: without GPUs, a core for each of its processes.

    Raises:
        InputError: no node has that much, so Ray would wait for ever.
    """
    gpus, cpus = settings.gpus_per_cell, settings.cpus_per_cell or 1
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
    if gpus_of_cell > 1:
        gpus, cpus = (gpus_of_cell, cpus) if gpus else (0, max(cpus, gpus_of_cell))
    demand = {"num_cpus": cpus, "num_gpus": gpus}
    sizes = [
        (node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]
    ]
    if not any(cpus >= demand["num_cpus"] and has >= gpus for cpus, has in sizes):
        there = "; ".join(f"{cpus:g} CPUs, {has:g} GPUs" for cpus, has in sizes)
        raise InputError(
            f"a cell wants {demand['num_cpus']} CPUs and {gpus:g} GPUs, and no node of the Ray cluster has them. The "
            f"nodes: {there}"
        )
    return demand


# Running


@dataclass(frozen=True)
class _Started:
    """A task has begun with the cell."""

    cell: str


class _Events:
    """An actor on the driver's node that passes events on."""

    def __init__(self) -> None:
        self._events: list[WorkerEvent | _Started] = []

    def put(self, event: WorkerEvent | _Started) -> None:
        self._events.append(event)

    def take(self) -> list[WorkerEvent | _Started]:
        events, self._events = self._events, []
        return events


def _run(job: Job, probe: Mapping[str, str], events: Any) -> Answered | Failure:
    """Do one cell, as a task on a node."""
    wait_silently()
    events.put.remote(_Started(job.cell))
    if not _sees(probe):
        return Failure(job.cell, f"this node does not see the output folder {job.out}: all nodes must share it")
    return run_job(job, lambda event: events.put.remote(event))


def _follow(ray: Any, jobs: Sequence[tuple[Job, Mapping[str, Any]]], probe: Mapping[str, str], retries: int) -> Events:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    events = ray.remote(_Events).options(num_cpus=0, scheduling_strategy=here).remote()
    task = ray.remote(_run)
    running = {task.options(max_retries=retries, **demand).remote(job, probe, events): job.cell for job, demand in jobs}
    started: Counter[str] = Counter()
    while running:
        done, _ = ray.wait(list(running), num_returns=len(running), timeout=TICK_SECONDS)
        for event in ray.get(events.take.remote()):
            yield from _seen(event, started)
        for reference in done:
            yield _outcome(ray, reference, running.pop(reference))
        yield Tick()


def _seen(event: WorkerEvent | _Started, started: Counter[str]) -> Iterator[WorkerEvent]:
    """Yield an event as the driver knows it: a second start means that the first worker was lost."""
    if not isinstance(event, _Started):
        yield event
        return
    started[event.cell] += 1
    if started[event.cell] > 1:
        yield RunsAgain(event.cell, "its worker or node was lost")


def _outcome(ray: Any, reference: Any, name: str) -> Answered | Failure:
    try:
        event: Answered | Failure = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Failure(name, f"Ray lost the cell: {(str(error).strip().splitlines() or ['?'])[0]}")
    return event
