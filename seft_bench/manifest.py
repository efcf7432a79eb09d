"""Manifests of how something was made: command, configuration, code, packages, data, hardware, times. Never a key."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from seft_bench import __version__
from seft_bench.files import sha256_json
from seft_bench.records import Manifest

RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "alpaca-eval",
    "fschat",
    "vllm",
    "trl",
)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def build_manifest(
    config: Mapping[str, Any],
    seed: int,
    started_at: str,
    *,
    command: str = "",
    data_hashes: Mapping[str, str] | None = None,
    parents: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Manifest:
    """A manifest that ends now. `command` defaults to the one that this process was started with."""
    commit, dirty = git_state()
    return Manifest(
        command=command or command_line(),
        config=dict(config),
        config_hash=sha256_json(config),
        git_commit=commit,
        git_dirty=dirty,
        packages=package_versions(),
        data_hashes=dict(data_hashes or {}),
        seed=seed,
        hardware=hardware(),
        started_at=started_at,
        ended_at=now(),
        parents=dict(parents or {}),
        notes=notes,
    )


def command_line() -> str:
    """The command as typed, with the program's name instead of its path."""
    program = Path(sys.argv[0]).name
    return shlex.join(["seft-bench" if program in ("cli.py", "__main__.py") else program, *sys.argv[1:]])


@lru_cache(maxsize=1)
def git_state() -> tuple[str, bool | None]:
    """Commit and dirty flag of the checkout that this code runs from; ("", None) for an installed wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "", None
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--", "seft_bench", "training", "eval_configs"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "", None
    return commit, bool(status.strip())


@lru_cache(maxsize=1)
def package_versions() -> dict[str, str]:
    versions = {"seft-bench": __version__, "python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@lru_cache(maxsize=1)
def hardware() -> dict[str, Any]:
    """Processor, cores and GPUs; the GPU is asked only where torch is loaded anyway."""
    found: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
