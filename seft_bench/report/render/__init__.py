"""A table as Markdown, CSV, JSON, HTML or LaTeX. Pure, and the same table gives the same bytes.

Names of models come from outside: every format escapes its own markup, and control characters (terminal escapes,
bidirectional overrides, zero-width ones) are written out as text everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

from seft_bench.report.render.data import to_csv, to_json
from seft_bench.report.render.html import html_page, to_html
from seft_bench.report.render.latex import to_latex
from seft_bench.report.render.markdown import to_markdown
from seft_bench.report.render.text import plain_text
from seft_bench.report.tables import Table

__all__ = ["RENDERERS", "html_page", "plain_text", "to_csv", "to_html", "to_json", "to_latex", "to_markdown"]

RENDERERS: dict[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "html": to_html,
    "latex": to_latex,
}
"""Name of a format -> its writer."""
