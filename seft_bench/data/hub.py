"""Data sets on the Hugging Face hub, as folders here: fetched once, known by their commit."""

from __future__ import annotations

import re
from pathlib import Path

from seft_bench.errors import InputError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
"""owner/name, with @revision where one is named."""

_FILES = ("README.md", "*.parquet", "*.json", "*.jsonl", "*.ndjson", "*.csv", "*.tsv", "*.txt", "*.arrow", "*.gz")


def fetch_repository(named: str, revision: str | None) -> tuple[Path, str]:
    """Find a data set's repository in the hub's cache, fetched where it is not there yet.

    The library's own loader takes, where the hub cannot be reached, the newest version in its cache, whichever
    revision was asked for; a snapshot is the revision's, or an error.

    Args:
        named: hub id, with @revision or not.

    Returns:
        Its folder, and the commit.

    Raises:
        InputError: two revisions are named, or it cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, in_name = named.partition("@")
    if in_name and revision and in_name != revision:
        raise InputError(f"data source {named!r}: its revision is named twice, {in_name!r} and {revision!r}")
    wanted = in_name or revision
    try:
        folder = Path(snapshot_download(repository, repo_type="dataset", revision=wanted, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"data source {named!r} is no file or folder here, and it cannot be fetched from the hub: {first}"
        ) from None
    return folder, folder.name
