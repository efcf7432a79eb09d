"""Sources to files: what a recipe's `data` names becomes one file of rows a role, with a manifest of how it came about.

    source ──read──▶ rows as they are ──shape──▶ rows of ours ──part, role, limit──▶ HASH/ROLE.jsonl

The folder is named by what was asked for and what the sources hold, so a changed source is another folder. A role is
made when it is first needed, once, under a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seft_bench.config import ROLES, DataConfig, Role, SourceConfig
from seft_bench.console import note
from seft_bench.data.conversations import LeftOutError, ShapeError
from seft_bench.data.roles import for_role, prompt_in, recognise
from seft_bench.data.shapes import SHAPES, Kind, Options, Shape, read_row
from seft_bench.data.sources import Opened, fingerprint, missing_message, open_source
from seft_bench.data.splitting import prompt_place, shares
from seft_bench.errors import InputError
from seft_bench.files import locked, read_json, sha256_json, write_json, write_jsonl
from seft_bench.records import Row

FORMAT = 1
"""Raised when a change of the code changes what a source becomes: old folders are then not taken for new ones."""


def source_for(config: DataConfig, name: str) -> SourceConfig:
    """Find where the rows of a data set come from, through another role where it takes that one's.

    Raises:
        InputError: nothing is said of it, or nothing is there.
    """
    source = _origin(config, name)
    if source is None:
        named = ", ".join(config.own_sources)
        raise InputError(
            f"data: the method reads {name}, and no source is given for it (given are: {named}). A role may also take "
            f"another's rows: `{name}: {{from: {next(iter(config.own_sources))}, fraction: 0.1}}`. See docs/data.md."
        )
    if fingerprint(source) is None:
        raise InputError(missing_message(str(source.source)))
    return source


def _origin(config: DataConfig, name: str) -> SourceConfig | None:
    """Return the source that a role's rows are read from in the end; None where none is named."""
    source = config.source_of(_role(name))
    return config.source_of(source.base) if source is not None and source.base is not None else source


def _named(config: DataConfig, role: Role) -> SourceConfig:
    """Return what is said of a role, of which `source_for` has found that something is."""
    source = config.source_of(role)
    if source is None:
        raise TypeError(f"no source for {role}")
    return source


def _role(name: str) -> Role:
    for role in ROLES:
        if role == name:
            return role
    raise InputError(
        f"data: the method reads {name!r}, which is none of the roles that sources are named for ({', '.join(ROLES)}). "
        f"Give a folder with {name}.jsonl."
    )


def fingerprints(config: DataConfig, needed: Iterable[str]) -> dict[str, str]:
    """Hash the sources of the data sets that are needed; what is not there has no hash."""
    origins = {name: source for name in needed if (source := _origin(config, name)) is not None}
    return {name: digest for name, source in origins.items() if (digest := fingerprint(source)) is not None}


def resolve(config: DataConfig, folder: Path, needed: Iterable[str]) -> Path:
    """Make the files of the roles that are needed, where they are not there yet.

    Args:
        folder: a folder named by a hash is made in it.

    Returns:
        The folder with ROLE.jsonl, and manifest.json: role -> source, what it held, rows, and what was left out.

    Raises:
        InputError: a source is missing or malformed, or nothing of it can be used.
    """
    roles = [_role(name) for name in needed]
    for role in roles:
        source_for(config, role)
    said = [FORMAT, config.model_dump(exclude={"name"}), fingerprints(config, ROLES)]
    target = folder / sha256_json(said)[:16]
    with locked(folder / ".locks" / target.name):
        path = target / "manifest.json"
        made = read_json(path, "manifest of data sets") if path.exists() else {}
        shop = _Shop(config)
        for role in roles:
            if role not in made:
                rows, record = shop.make(role)
                write_jsonl(target / f"{role}.jsonl", rows)
                made[role] = record
                write_json(path, made)
                _say(role, record)
    return target


def _say(role: Role, record: Row) -> None:
    reasons = _counted(record["left_out"])
    note(
        f"data: {record['rows']} rows of {role} from {record['source']} ({record['shape']})"
        + (f"; left out of {record['rows_read']} rows read: {reasons}" if reasons else "")
    )
    if "@" not in record["source"] and "revision" not in record and (commit := record.get("commit")):
        note(f"data: {record['source']} names no revision; this one is {record['source']}@{commit}")


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


@dataclass
class _Read:
    """The rows of ours that a source holds.

    Attributes:
        left_out: reason -> rows of the source.
    """

    source: Opened
    shape_name: str
    kind: Kind
    rows: list[Row]
    rows_read: int
    left_out: Counter[str]


@dataclass
class _Shop:
    """Makes roles; a source that serves several is read once."""

    config: DataConfig
    read: dict[Role, _Read] = field(default_factory=dict)

    def make(self, role: Role) -> tuple[list[Row], Row]:
        """Make a role's rows and what the manifest says of them."""
        asked = _named(self.config, role)
        base = asked.base or role
        source = _named(self.config, base)
        if base not in self.read:
            self.read[base] = read_source(source, base)
        read = self.read[base]
        own, left_out = self._own_part(read, base, role, asked), Counter(read.left_out)
        rows = _as_role(own, read, role, left_out)
        kept = rows[: asked.limit]
        if not kept:
            reasons = _counted(left_out) or "no row is this role's"
            raise InputError(f"data: nothing of {read.source.name} can be used as {role}: {reasons}")
        where = {"from": asked.base, "split": source.split, "config": source.config, "revision": source.revision}
        counts = {"other_roles": len(read.rows) - len(own), "beyond_limit": len(rows) - len(kept)}
        return kept, {
            **read.source.facts,
            **{key: value for key, value in {**where, **counts}.items() if value},
            "shape": read.shape_name,
            "rows_read": read.rows_read,
            "rows": len(kept),
            "left_out": dict(sorted(left_out.items())),
        }

    def _own_part(self, read: _Read, base: Role, role: Role, asked: SourceConfig) -> list[Row]:
        """Choose the rows whose prompts are this role's."""
        taken = self.config.taken_from(base)
        if not taken or (asked.base and not asked.fraction):
            return read.rows
        start, end = shares(base, taken)[role]
        return [row for row in read.rows if start <= prompt_place(prompt_in(row)) < end]


def _as_role(rows: list[Row], read: _Read, role: Role, left_out: Counter[str]) -> list[Row]:
    try:
        make = for_role(read.kind, role)
    except ShapeError as error:
        raise InputError(f"data: {read.source.name} (shape {read.shape_name}): {error}") from None
    made: list[Row] = []
    for row in rows:
        try:
            made += make(row)
        except LeftOutError as reason:
            left_out[str(reason)] += 1
    return made


def read_source(source: SourceConfig, role: Role) -> _Read:
    """Read a source's rows into rows of ours.

    Args:
        role: what they shall serve, which tells a shape where none is named.

    Raises:
        InputError: with the place of the first row that is malformed.
    """
    opened, options = open_source(source), Options(source.learn, source.pairs)
    found: tuple[str, Shape] | None = None
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    count = 0
    for where, given in opened.rows:
        count += 1
        try:
            row = _renamed(given, source)
            if found is None:
                name = recognise(row, role) if source.shape == "auto" else source.shape
                found = name, SHAPES[name]
            rows += read_row(found[1], row, options)
        except LeftOutError as reason:
            left_out[str(reason)] += 1
        except ShapeError as error:
            raise InputError(f"data source {opened.name}, {where}: {error}") from None
    if found is None:
        raise InputError(f"data source {opened.name} has no rows")
    return _Read(opened, found[0], found[1].kind, rows, count, left_out)


def _renamed(row: Row, source: SourceConfig) -> Row:
    """Call the columns what the shapes call them."""
    if not source.columns:
        return row
    if missing := [theirs for theirs in source.columns.values() if theirs not in row]:
        raise ShapeError(f"`columns` names {', '.join(missing)}, and this row has {', '.join(map(str, row))}")
    others = {key: value for key, value in row.items() if key not in source.columns.values()}
    return others | {ours: row[theirs] for ours, theirs in source.columns.items()}
