"""Suites, judges and matrices by name: shipped ones, or a file of the user's."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from seft_bench.config.judges import JUDGE, JudgeConfig
from seft_bench.config.loading import load_yaml, read_yaml, validate
from seft_bench.config.matrices import MatrixConfig
from seft_bench.config.servers import ServedModelConfig
from seft_bench.config.suites import SuiteConfig
from seft_bench.errors import unknown_name


def config_folder() -> Path:
    """The folder of shipped configs: in a checkout its `eval_configs/`, in a wheel the package's copy."""
    checkout = Path(__file__).resolve().parents[2] / "eval_configs"
    return checkout if checkout.is_dir() else Path(str(resources.files("seft_bench"))) / "_eval_configs"


def shipped(kind: str) -> dict[str, Path]:
    """Name -> path of the shipped configs of one kind: "suites", "judges" or "matrices"."""
    return {path.stem: path for path in sorted((config_folder() / kind).glob("*.yaml"))}


def load_suite(name: str, overrides: Iterable[str] = ()) -> SuiteConfig:
    path = _find("suite", "suites", name)
    suite: SuiteConfig = load_yaml(path, SuiteConfig, overrides)
    suite._folder = path.parent
    return suite


def load_judge(name: str) -> JudgeConfig:
    judge: JudgeConfig = load_yaml(_find("judge", "judges", name), JUDGE)
    return judge


def server_config(server: str, key_env: str | None) -> ServedModelConfig:
    """Return the settings of a server by its base URL, or by the YAML that holds them.

    Args:
        key_env: NAME of the variable with its key; None: as the YAML says.

    Raises:
        InputError: the YAML cannot be read, or has errors.
    """
    is_file = server.endswith((".yaml", ".yml"))
    values: dict[str, Any] = read_yaml(Path(server)) if is_file else {"base_url": server}
    given = {"api_key_env": key_env} if key_env else {}
    config: ServedModelConfig = validate({**values, **given}, ServedModelConfig, server if is_file else "--server")
    return config


def load_matrix(name: str) -> MatrixConfig:
    matrix: MatrixConfig = load_yaml(_find("matrix", "matrices", name), MatrixConfig)
    return matrix


def _find(what: str, kind: str, name: str) -> Path:
    """A shipped config by its name, or a file of the user's."""
    known = shipped(kind)
    if name in known:
        return known[name]
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise unknown_name(what, name, known, f"A {what} of your own is named by its file, NAME.yaml.")
