"""The command `doctor`: what this machine has, and what that lets one do. Names of keys only, never a key."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from seft_bench.cli.options import JsonOption
from seft_bench.manifest import hardware, package_versions

EXTRAS = {"alpaca_eval": "official", "fastchat": "official", "trl": "trl", "ray": "ray"}


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has: packages, GPU, data, keys (their names only)."""
    found = examine()
    print(json.dumps(found, indent=1) if as_json else for_people(found))


def examine() -> dict[str, Any]:
    """Look at packages, hardware, data and keys; JSON-ready."""
    from seft_bench.data.official import data_status

    return {
        "packages": package_versions(),
        "extras": {module: _has(module) for module in EXTRAS},
        "vllm": _vllm(),
        "hardware": hardware()
        | {"gpus": _gpus(), "free_disk_gigabytes": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1)},
        "official_data": {row.name: row.state for row in data_status()},
        "keys_set": sorted(name for name in os.environ if name.endswith("_API_KEY") and os.environ[name]),
    }


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _vllm() -> str:
    """Distribution and version in the environment that SEFT_BENCH_VLLM_PYTHON names; "" where there is none."""
    from seft_bench.errors import InputError
    from seft_bench.inference.vllm.environment import find_environment

    try:
        return find_environment().engine
    except InputError:
        return ""


def _gpus() -> list[str]:
    import torch

    return (
        [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )


def for_people(found: dict[str, Any]) -> str:
    """Say the same in words, with what to run next."""
    machine = found["hardware"]
    missing = [name for name, state in found["official_data"].items() if state == "missing"]
    lines = [
        ", ".join(f"{name} {version}" for name, version in found["packages"].items()),
        f"{machine['processor']}, {machine['cores']} cores, GPUs: "
        f"{', '.join(machine['gpus']) or 'none (everything tiny runs without)'}",
        f"free disk: {machine['free_disk_gigabytes']} GB",
        "extras: "
        + ", ".join(
            f"{module} {'yes' if there else 'no: pip install seft-bench[' + EXTRAS[module] + ']'}"
            for module, there in found["extras"].items()
        ),
        f"vLLM in an environment of its own: {found['vllm'] or 'no (docs/evaluate-your-model.md says how)'}",
        f"official data: {len(found['official_data']) - len(missing)} of {len(found['official_data'])} files"
        + (f"; missing: {', '.join(missing)}" if missing else ""),
        f"keys set: {', '.join(found['keys_set']) or 'none (the rubric judge and local servers need none)'}",
    ]
    return "\n".join(lines)
