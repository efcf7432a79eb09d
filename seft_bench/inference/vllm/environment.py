"""The environment that vLLM is installed in: one of its own, as its pins differ from ours, run as a program."""

from __future__ import annotations

import functools
import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from seft_bench.errors import InputError

PYTHON_VARIABLE = "SEFT_BENCH_VLLM_PYTHON"
ARGUMENTS_VARIABLE = "SEFT_BENCH_VLLM_ARGUMENTS"
INSTALL_LINE = (
    "python3 -m venv ~/vllm-env && ~/vllm-env/bin/pip install vllm==0.32.0 && export "
    f"{PYTHON_VARIABLE}=~/vllm-env/bin/python"
)
LOOK_SECONDS = 60
SETTINGS = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""The checkpoint lies here, so nothing is asked of the network."""
CPU_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",
}
CPU_ARGUMENTS = ("--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill")
"""float32, as bf16 is slower on a CPU and differs from our own generator.

Unchunked: a request's own seed with a chunked prompt crashes there.
"""

FLOAT32_ARGUMENTS = ("--dtype", "float32")
"""For models that are others when rounded: left to itself, vLLM runs those in float32 in half precision on a GPU."""

# Distributions differ in name (vllm, vllm-cpu), and `import vllm` takes seconds, so the installed metadata is asked.
_LOOK = """
import importlib.metadata as metadata, importlib.util, json
names = metadata.packages_distributions().get("vllm", []) if importlib.util.find_spec("vllm") else []
version = lambda name: next((item.version for item in metadata.distributions(name=name)), "")
print(json.dumps({"engine": [f"{name} {version(name)}" for name in names], "torch": version("torch")}))
"""


@dataclass(frozen=True)
class VLLMEnvironment:
    """A Python that has vLLM.

    Attributes:
        engine: distribution and version, as in "vllm 0.32.0".
        on_cpu: its torch drives no accelerator.
        arguments: what the user adds to every server's command line.
    """

    python: str
    engine: str
    on_cpu: bool
    arguments: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """Return a server's environment: ours without our keys and Python paths; what the user has set stays."""
        kept = {name: value for name, value in os.environ.items() if not _is_private(name)}
        return {**(CPU_SETTINGS if self.on_cpu else {}), **kept, **SETTINGS}


TORCHRUN_VARIABLES = frozenset(
    "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE ROLE_NAME "
    "MASTER_ADDR MASTER_PORT".split()
)


def _is_private(name: str) -> bool:
    """Return whether a variable stays ours: keys, our module path, which would shadow the engine's packages, and what
    torchrun says of this process, which the engine would take for its own.
    """
    of_torchrun = name in TORCHRUN_VARIABLES or name.startswith("TORCHELASTIC_")
    return name.endswith(("_API_KEY", "_TOKEN")) or name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") or of_torchrun


def find_environment(python: str | None = None) -> VLLMEnvironment:
    """Return the environment that `python`, else the variable SEFT_BENCH_VLLM_PYTHON, names.

    Raises:
        InputError: none is named, there is no such program, or it has no vLLM; with the line that installs one.
    """
    named = python or os.environ.get(PYTHON_VARIABLE)
    if not named:
        raise InputError(
            f"vLLM runs in an environment of its own, and {PYTHON_VARIABLE} does not name its python. Install it "
            f"once:\n  {INSTALL_LINE}"
        )
    return _look(str(Path(named).expanduser()), os.environ.get(ARGUMENTS_VARIABLE, ""))


@functools.lru_cache(maxsize=8)
def _look(python: str, arguments: str) -> VLLMEnvironment:
    try:
        seen = subprocess.run([python, "-c", _LOOK], capture_output=True, text=True, timeout=LOOK_SECONDS, check=True)
        found = json.loads(seen.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise InputError(
            f"{PYTHON_VARIABLE}: {python} is no python that can be run ({_first_line(error)}). Install one with "
            f"vLLM:\n  {INSTALL_LINE}"
        ) from None
    if not found["engine"]:
        raise InputError(
            f"{PYTHON_VARIABLE}: {python} has no vLLM. Install it there (`{python} -m pip install vllm==0.32.0`), or "
            f"anew:\n  {INSTALL_LINE}"
        )
    engine = found["engine"][0]
    return VLLMEnvironment(python, engine, "cpu" in engine or "+cpu" in found["torch"], tuple(shlex.split(arguments)))


def _first_line(error: Exception) -> str:
    stderr = getattr(error, "stderr", None)
    lines = (stderr if isinstance(stderr, str) and stderr.strip() else str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
