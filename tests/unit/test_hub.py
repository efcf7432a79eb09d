"""Models of the hub by name and revision, from a stand-in for its cache: no test reaches a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.data.training import open_base
from seft_bench.errors import InputError

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one model in two revisions, of which `main` is the newer."""
    import huggingface_hub.constants

    repository = tmp_path / "models--owner--name"
    for revision in (OLD, NEW):
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return repository


def test_a_base_is_opened_at_the_revision_that_its_name_gives(cache: Path) -> None:
    assert open_base(f"owner/name@{OLD}") == cache / "snapshots" / OLD
    assert open_base("owner/name") == cache / "snapshots" / NEW


def test_a_revision_that_is_not_there_is_one_message(cache: Path) -> None:
    with pytest.raises(InputError, match=f"base 'owner/name@{'c' * 40}' is no folder here, and it cannot be fetched"):
        open_base(f"owner/name@{'c' * 40}")
