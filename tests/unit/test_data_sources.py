"""Every kind of source gives the same rows; every malformed one is named with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from seft_bench.config import DataConfig, SourceConfig
from seft_bench.data.reading import read_source
from seft_bench.data.resolving import resolve
from seft_bench.errors import InputError
from seft_bench.files import read_json, read_jsonl
from seft_bench.records import Row

ROWS: list[Row] = [
    {"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green,\nor 42"},
    {"prompt": 'A "quoted" word?', "chosen": "42", "rejected": "NA"},
]
OURS = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = 'prompt,chosen,rejected\nSky?,Blue.,"Green,\nor 42"\n"A ""quoted"" word?",42,NA\n'


def written(name: str, content: str) -> Callable[[Path], str]:
    """Makes a file, gzipped where its name says so; returns its path."""

    def write(folder: Path) -> str:
        data = content.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(folder / name)

    return write


def a_data_set() -> Any:
    return import_module("datasets").Dataset.from_list(ROWS)


def parquet(folder: Path) -> str:
    a_data_set().to_parquet(folder / "a.parquet")
    return str(folder / "a.parquet")


def saved_to_disk(folder: Path) -> str:
    a_data_set().save_to_disk(folder / "saved")
    return str(folder / "saved")


def repository(folder: Path) -> str:
    """A data set's repository as it lies on the hub: a README that names the splits, and shards of Parquet."""
    (folder / "data").mkdir(parents=True)
    a_data_set().to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    a_data_set().select([0]).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    splits = "".join(f"  - split: {name}\n    path: data/{name}-*\n" for name in ("train", "test"))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n")
    return str(folder)


SOURCES: dict[str, Callable[[Path], str]] = {
    "JSON Lines": written("a.jsonl", LINES),
    "JSON Lines, gzipped": written("a.jsonl.gz", LINES),
    "JSON Lines named .json": written("a.json", LINES),
    "JSON": written("a.json", json.dumps(ROWS, indent=1)),
    "CSV": written("a.csv", TABLE),
    "CSV, gzipped": written("a.csv.gz", TABLE),
    "TSV": written(
        "a.tsv", TABLE.replace('"Green,\nor 42"', "'x'").replace(",", "\t").replace("'x'", '"Green,\nor 42"')
    ),
    "Parquet": parquet,
    "save_to_disk": saved_to_disk,
    "repository": lambda folder: repository(folder / "repository"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    named = SOURCES[kind](tmp_path)
    data = DataConfig.model_validate({"preferences": named})
    folder = resolve(data, tmp_path / "made", ["preferences"])
    assert read_jsonl(folder / "preferences.jsonl") == OURS
    record = read_json(folder / "manifest.json")["preferences"]
    assert record == {
        "source": named,
        "sha256": record["sha256"],
        "shape": "preference",
        "rows_read": 2,
        "rows": 2,
        "left_out": {},
        "contaminated": record["contaminated"],
    }
    assert record["contaminated"]["rows"] == 0
    assert len(record["sha256"]) == 64


def test_messages_stand_in_a_table_as_json(tmp_path: Path) -> None:
    cell = json.dumps([{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}])
    (tmp_path / "a.csv").write_text('messages\n"' + cell.replace('"', '""') + '"\n')
    assert rows_of(tmp_path / "a.csv", "sft") == [{"messages": json.loads(cell)}]


def test_a_list_of_texts_is_a_list_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["Sky?", "Sea?"]')
    (tmp_path / "a.txt").write_text("Sky?\n\nSea?\n")
    asked = [{"prompt": [{"role": "user", "content": text}]} for text in ("Sky?", "Sea?")]
    assert rows_of(tmp_path / "a.json", "prompts") == asked
    assert rows_of(tmp_path / "a.txt", "prompts") == asked


def rows_of(path: Path, role: Any, **source: Any) -> list[Row]:
    return read_source(SourceConfig(source=str(path), **source), role).rows


def test_columns_are_called_what_the_shapes_call_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Sky?", "good": "Blue.", "bad": "Green.", "prompt": "ignored"}\n')
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    made = rows_of(tmp_path / "a.jsonl", "preferences", columns=columns)
    assert made == [{"prompt": [{"role": "user", "content": "Sky?"}], "chosen": "Blue.", "rejected": "Green."}]
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: `columns` names asked, and this row has question, good"):
        rows_of(tmp_path / "a.jsonl", "preferences", columns={"prompt": "asked"})


def test_splits(tmp_path: Path) -> None:
    repository(tmp_path)
    assert len(rows_of(tmp_path, "preferences")) == 2  # train, where nothing is said
    assert len(rows_of(tmp_path, "preferences", split="test")) == 1
    with pytest.raises(InputError, match=r"has no split 'validation'. There are train, test\."):
        rows_of(tmp_path, "preferences", split="validation")
    with pytest.raises(InputError, match=r"BuilderConfig 'other' not found\. Available: \['default'\]"):
        rows_of(tmp_path, "preferences", config="other")
    datasets = import_module("datasets")
    datasets.DatasetDict({"a": a_data_set(), "b": a_data_set()}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=r"has several splits: name one as `split`. There are a, b\."):
        rows_of(tmp_path / "saved", "preferences")
    assert len(rows_of(tmp_path / "saved", "preferences", split="b")) == 2


def test_a_hub_repository_is_read_from_the_cache_at_the_revision_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache as the hub's client keeps it, and no network: two commits, of which `main` is the second."""
    constants = import_module("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repo, commits = tmp_path / "datasets--owner--pairs", ["a" * 40, "b" * 40]
    repository(repo / "snapshots" / commits[1])
    (repo / "snapshots" / commits[0]).mkdir()
    (repo / "snapshots" / commits[0] / "old.jsonl").write_text(LINES.splitlines()[0])
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commits[1])
    newest = read_source(SourceConfig(source="owner/pairs"), "preferences")
    assert (newest.rows, newest.source.facts["commit"]) == (OURS, commits[1])
    for pinned in (
        SourceConfig(source="owner/pairs", revision=commits[0]),
        SourceConfig(source=f"owner/pairs@{commits[0]}"),
    ):
        assert read_source(pinned, "preferences").rows == OURS[:1]
    with pytest.raises(InputError, match=r"'owner/pairs' is no file or folder here, and it cannot be fetched"):
        read_source(SourceConfig(source="owner/pairs", revision="c" * 40), "preferences")
    with pytest.raises(InputError, match="its revision is named twice"):
        read_source(SourceConfig(source="owner/pairs@main", revision="v1"), "preferences")


MALFORMED: dict[str, tuple[str, str | bytes, str]] = {
    "JSON Lines": ("a.jsonl", LINES + "{not json}\n", r"a\.jsonl, line 3: not valid JSON .*: '\{not json\}'"),
    "a row that is none": ("a.jsonl", LINES + "\n[1]\n", r"a\.jsonl, line 4: a JSON object or a text .* is list"),
    "a column that is missing": (
        "a.jsonl",
        LINES + '{"prompt": "x", "chosen": "y"}\n',
        "line 3: column rejected is",
    ),
    "a value of another type": (
        "a.jsonl",
        LINES + '{"prompt": "x", "chosen": "y", "rejected": 3}\n',
        r"a\.jsonl, line 3: 'rejected' must be text or a list of messages, this is int '3'",
    ),
    "JSON": ("a.json", "[{]", r"not valid JSON: .*a\.json, line 1"),
    "JSON, a row that is none": ("a.json", json.dumps([*ROWS, 3]), r"a\.json, index 2: a JSON object or a text"),
    "CSV, a cell too many": ("a.csv", TABLE + "a,b,c,d\n", r"a\.csv, line 5: 4 cells, and 3 columns \(prompt, chosen"),
    "CSV, a cell too few": ("a.csv", TABLE + "a,b\n", r"a\.csv, line 5: 2 cells, and 3 columns"),
    "CSV, an open quote": ("a.csv", TABLE + 'a,"b,c\n', r"a\.csv, line 5: not a row of a table \(unexpected end"),
    "CSV, a name twice": ("a.csv", "prompt,prompt\na,b\n", r"a\.csv, line 1: the names of the columns must differ"),
    "bytes that are no text": (
        "a.jsonl",
        b'{"prompt": "\xff"}\n',
        r"not UTF-8 text: .*a\.jsonl \(byte 12",
    ),
    "a broken gzip": ("a.jsonl.gz", b"\x1f\x8bnonsense", r"data file is not gzipped UTF-8 text: .*a\.jsonl\.gz"),
    "Parquet": ("a.parquet", b"nonsense", r"a\.parquet' cannot be read: Parquet magic bytes not found"),
    "an unknown ending": ("a.xlsx", b"", r"a\.xlsx has no known ending\. Files that can be read: \.jsonl, "),
    "nothing at all": ("a.jsonl", b"", r"a\.jsonl has no rows"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_every_malformed_file_is_named_with_its_place(kind: str, tmp_path: Path) -> None:
    name, content, message = MALFORMED[kind]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message):
        rows_of(tmp_path / name, "preferences")


def test_a_malformed_row_of_a_table_without_lines_is_named_by_its_number(tmp_path: Path) -> None:
    datasets = import_module("datasets")
    datasets.Dataset.from_list([*ROWS, {"prompt": "x", "chosen": None, "rejected": "y"}]).to_parquet(
        tmp_path / "a.parquet"
    )
    with pytest.raises(InputError, match=r"a\.parquet, row 2: 'chosen' must be text or .*, this is null"):
        rows_of(tmp_path / "a.parquet", "preferences")


def test_a_source_that_is_not_there_is_said_with_what_one_is(tmp_path: Path) -> None:
    for named in (f"{tmp_path}/none", "./none", "a/b/c", "mine.jsonl"):
        with pytest.raises(InputError, match="there is no such file or folder, and it is no hub id"):
            read_source(SourceConfig(source=named), "preferences")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty' cannot be read: The directory at .* doesn't contain any data files"):
        rows_of(tmp_path / "empty", "preferences")
    (tmp_path / "a.jsonl").write_text(LINES)
    with pytest.raises(InputError, match="is a file here, which has no split, revision: take that away"):
        rows_of(tmp_path / "a.jsonl", "preferences", split="train", revision="main")


def test_sources_of_which_little_can_be_used_are_refused_and_the_odd_row_is_counted(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}]
    rows = [{"messages": talk}, *[{"messages": talk[:1]}] * 2]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"nothing can be made of 2 of 3 rows \(2 conversation without an answer\)"):
        rows_of(tmp_path / "a.jsonl", "sft")
    assert len(rows_of(tmp_path / "a.jsonl", "sft", max_left_out=0.7)) == 1


def test_left_out_rows_are_said_and_many_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, begin in ((20, "data: "), (5, "WARNING: data: ")):
        rows = [{"prompt": f"Question {n}?", "completion": "A"} for n in range(number - 1)]
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": " ", "completion": "A"}]))
        resolve(DataConfig.model_validate({"sft": str(path)}), tmp_path / "made", ["sft"])
        said = (
            f"{number - 1} rows of sft from {path} (prompt-completion); left out of {number} rows read: 1 empty prompt"
        )
        assert capsys.readouterr().err == f"{begin}{said}\n"
