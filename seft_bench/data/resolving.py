"""Sources to files: what a recipe's `data` names becomes one file of rows a role, with a manifest of how it came about.

    source ──read──▶ rows as they are ──shape──▶ rows of ours ──part, role, clean, limit──▶ HASH/ROLE.jsonl

The folder is named by what was asked for and what the sources hold, so a changed source is another folder. A role is
made when it is first needed, once, under a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seft_bench.config import ROLES, DataConfig, Role, SourceConfig
from seft_bench.console import note, says_who
from seft_bench.data.contamination import RULE
from seft_bench.data.conversations import LeftOutError, ShapeError
from seft_bench.data.reading import RowsRead, read_source
from seft_bench.data.roles import as_role, prompt_in
from seft_bench.data.sources import fingerprint, missing_message, open_source
from seft_bench.data.splitting import prompt_place, shares
from seft_bench.data.suite_questions import SuiteQuestions, questions_at_hand
from seft_bench.errors import InputError
from seft_bench.files import locked, read_json, sha256_json, write_json, write_jsonl
from seft_bench.records import Row

FORMAT = 1
"""Raised when a change of the code changes what a source becomes: old folders are then not taken for new ones."""

WARNED_SHARE = 0.1
"""Rows left out above this share are more than the odd one."""

EXAMPLES = 5
"""Rows that ask what a suite asks, and stand in the manifest."""

SHOWN = 200
"""Characters of such a text that are shown."""


def source_for(config: DataConfig, name: str) -> SourceConfig:
    """Find where the rows of a data set come from, through another role where it takes that one's.

    Raises:
        InputError: nothing is said of it, or nothing is there.
    """
    source = _origin(config, name)
    if source is None:
        given = list(config.own_sources)
        raise InputError(
            f"data: the method reads {name}, and no source is given for it (given are: {', '.join(given)}). "
            + (
                f"A role may also take another's rows: `{name}: {{from: {given[0]}, fraction: 0.1}}`. See docs/data.md."
                if name in ROLES
                else f"It is none of the roles ({', '.join(ROLES)}): give a `folder` with {name}.jsonl."
            )
        )
    if fingerprint(source) is None:
        raise InputError(missing_message(str(source.source)))
    return source


def _origin(config: DataConfig, name: str) -> SourceConfig | None:
    """Return the source that a data set's rows are read from in the end; None where none is named."""
    source = config.source_of(name)
    return config.source_of(source.base) if source is not None and source.base is not None else source


def _named(config: DataConfig, name: str) -> SourceConfig:
    """Return what is said of a data set, of which `source_for` has found that something is."""
    source = config.source_of(name)
    if source is None:
        raise TypeError(f"no source for {name}")
    return source


def fingerprints(config: DataConfig, needed: Iterable[str]) -> dict[str, str]:
    """Hash the sources of the data sets that are needed; what is not there has no hash."""
    origins = {name: source for name in needed if (source := _origin(config, name)) is not None}
    return {name: digest for name, source in origins.items() if (digest := fingerprint(source)) is not None}


def resolve(config: DataConfig, folder: Path, needed: Iterable[str]) -> Path:
    """Make the files of the data sets that are needed, where they are not there yet.

    Args:
        folder: a folder named by a hash is made in it.

    Returns:
        The folder with NAME.jsonl, and manifest.json: name -> source, what it held, rows, and what was left out.

    Raises:
        InputError: a source is missing or malformed, or nothing of it can be used.
    """
    needed, questions = list(needed), questions_at_hand()
    held = fingerprints(config, dict.fromkeys([*ROLES, *needed]))
    said = [FORMAT, {**config.model_dump(), "name": ""}, held, questions.fingerprint]
    target = folder / sha256_json(said)[:16]
    with locked(folder / ".locks" / target.name, says_who(f"makes {target}")):
        path = target / "manifest.json"
        made = read_json(path, "manifest of data sets") if path.exists() else {}
        shop = _Shop(config, questions)
        for name in needed:
            source_for(config, name)
            if name not in made:
                rows, made[name] = shop.make(name)
                write_jsonl(target / f"{name}.jsonl", rows)
                write_json(path, made)
                _say(name, made[name], path)
    return target


def _say(name: str, record: Row, manifest: Path) -> None:
    """Tell the user what became of a source."""
    reasons = _counted(record["left_out"])
    warning = "WARNING: " if sum(record["left_out"].values()) > WARNED_SHARE * record["rows_read"] else ""
    note(
        f"{warning}data: {record['rows']} rows of {name} from {record['source']} ({record['shape']})"
        + (f"; left out of {record['rows_read']} rows read: {reasons}" if reasons else "")
    )
    found = record.get("contaminated", {"rows": 0})
    if found["rows"]:
        what = "removed (--keep-contaminated keeps them)" if found["removed"] else "kept, as asked for"
        count = f"{found['rows']} rows of {name} ask what a suite asks ({_counted(found['by_suite'])})"
        note(f"data: {count} and were {what}; examples: {manifest}")
    if "@" not in record["source"] and "revision" not in record and (commit := record.get("commit")):
        note(f"data: {record['source']} names no revision; this one is {record['source']}@{commit}")


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items())


@dataclass
class _Shop:
    """Makes roles; a source that serves several is read once."""

    config: DataConfig
    questions: SuiteQuestions
    read: dict[Role, RowsRead] = field(default_factory=dict)

    def make(self, name: str) -> tuple[list[Row], Row]:
        """Make a data set's rows and what the manifest says of them."""
        role = next((role for role in ROLES if role == name), None)
        return self._role(role) if role else self._as_it_is(name)

    def _as_it_is(self, name: str) -> tuple[list[Row], Row]:
        """Take the rows of a data set that only the user's own method knows."""
        opened = open_source(_named(self.config, name))
        rows = [row for _, row in opened.rows]
        return rows, {**opened.facts, "shape": "as it is", "rows_read": len(rows), "rows": len(rows), "left_out": {}}

    def _role(self, role: Role) -> tuple[list[Row], Row]:
        asked = _named(self.config, role)
        base = asked.base or role
        source = _named(self.config, base)
        if base not in self.read:
            self.read[base] = read_source(source, base)
        read = self.read[base]
        own, left_out = self._own_part(read, base, role, asked), Counter(read.left_out)
        rows, found = self._clean(_as_role(own, read, role, left_out))
        kept = rows[: asked.limit]
        if not kept:
            reasons = _counted(left_out + Counter({"that ask what a suite asks": found["rows"]}))
            raise InputError(
                f"data: nothing of {read.source.name} can be used as {role}: {reasons or 'no row is of its part'}"
            )
        where = {"from": asked.base, "split": source.split, "config": source.config, "revision": source.revision}
        counts = {"other_roles": len(read.rows) - len(own), "beyond_limit": len(rows) - len(kept)}
        return kept, {
            **read.source.facts,
            **{key: value for key, value in {**where, **counts}.items() if value},
            "shape": ", ".join(read.shapes),
            "rows_read": read.rows_read,
            "rows": len(kept),
            "left_out": dict(sorted(left_out.items())),
            "contaminated": found,
        }

    def _own_part(self, read: RowsRead, base: Role, role: Role, asked: SourceConfig) -> list[Row]:
        """Choose the rows whose prompts are this role's."""
        taken = self.config.taken_from(base)
        if not taken or (asked.base and not asked.fraction):
            return read.rows
        start, end = shares(base, taken)[role]
        return [row for row in read.rows if start <= prompt_place(prompt_in(row)) < end]

    def _clean(self, rows: list[Row]) -> tuple[list[Row], Row]:
        """Take away the rows that ask what a suite asks, unless they are to be kept; say how many, of whose, and which.

        Returns:
            The rows; and what was found.
        """
        checked: Row = {"against": list(self.questions.suites), "not_at_hand": list(self.questions.missing), "rows": 0}
        found = [(row, asked) for row in rows if (asked := self.questions.index.find_in_row(row))]
        if not found:
            return rows, checked
        asking = {id(row) for row, _ in found}
        keep = self.config.keep_contaminated
        return rows if keep else [row for row in rows if id(row) not in asking], checked | {
            "rows": len(found),
            "removed": not keep,
            "rule": RULE,
            "by_suite": dict(sorted(Counter(asked.suite for _, (asked, _) in found).items())),
            "examples": [
                {"suite": asked.suite, "question": asked.text[:SHOWN], "found_in": text[:SHOWN]}
                for _, (asked, text) in found[:EXAMPLES]
            ],
        }


def _as_role(rows: list[Row], read: RowsRead, role: Role, left_out: Counter[str]) -> list[Row]:
    made: list[Row] = []
    for row in rows:
        try:
            made += as_role(row, role)
        except LeftOutError as reason:
            left_out[str(reason)] += 1
        except ShapeError as error:
            raise InputError(f"data: {read.source.name} (shape {', '.join(read.shapes)}): {error}") from None
    return made
