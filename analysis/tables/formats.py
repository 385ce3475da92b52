"""One table, written as CSV, Markdown, LaTeX and HTML.

Cells may hold anything a configuration or a transcript holds, so every format escapes what it would take for syntax.
CSV holds the plain values for other programs; the other three are for people. A spreadsheet takes a cell that begins
with one of `= + - @`, a tab or a carriage return for a formula, so CSV has an apostrophe before such text.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis.inputs.schemas import WER

MISSING = "–"
WER_KEY = re.compile(r"(?<![a-z])wer(?![a-z])")
CER_KEYS = {"ref_words": "ref_characters", "words": "characters"}
CER_KEYS |= {"words_needed": "characters_needed", "words_for_power": "characters_for_power"}
CER_HEADINGS = {"ref_words": "reference characters", "words": "characters"}
CER_HEADINGS |= {"words_needed": "characters needed", "behind": "seeds and characters"}
"""Columns that count words, where characters are counted."""
ROOM = 10
"""Columns that Markdown and LaTeX have room for."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line break it would begin an option
    "]": "{]}",
    MISSING: "--",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": r"$-$",
}


@dataclass(frozen=True)
class Column:
    """One column. Its `key` is the CSV heading and the key of the rows; without a `heading` only the CSV has it.

    `wide` columns are left out where there is no room to scroll: in Markdown and LaTeX.
    """

    key: str
    heading: str = ""
    numeric: bool = True
    wide: bool = False


def brief(columns: Sequence[Column], *keys: str) -> list[Column]:
    """The columns in their order, all of them wide but those of `keys`.

    `keys` come in the order in which a reader needs them: where there is no room for all that the table has, the last
    ones are wide too.
    """
    headed = {column.key for column in columns if column.heading}
    kept = [key for key in dict.fromkeys(keys) if key in headed][:ROOM]
    return [replace(column, wide=column.key not in kept) for column in columns]


@dataclass(frozen=True)
class Table:
    """A table with its notes. Each row maps column keys to a value for CSV, or to `(value, text for people)`."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[dict]
    notes: Sequence[str] = field(default=())
    pairs: Sequence[tuple[str, str, str]] = field(default=())
    """Columns that say the same of ours and of the paper's: (our key, the paper's, name of the set or "")."""

    def of_characters(self) -> "Table":
        """The same where errors are those of characters: keys and headings say so."""

        def key(name: str) -> str:
            return CER_KEYS.get(name, WER_KEY.sub("cer", name))

        columns = [
            replace(column, key=key(column.key), heading=CER_HEADINGS.get(column.key, _cer(column.heading)))
            for column in self.columns
        ]
        rows = [{key(name): value for name, value in row.items()} for row in self.rows]
        return replace(self, title=_cer(self.title), columns=columns, rows=rows, notes=[*map(_cer, self.notes)])

    def shown(self, wide: bool) -> list[Column]:
        """The columns that people read, with or without the wide ones."""
        return [column for column in self.columns if column.heading and (wide or not column.wide)]

    def texts(self, wide: bool) -> list[list[str]]:
        """What people read in those columns, row by row."""
        return [[_text(row.get(column.key)) for column in self.shown(wide)] for row in self.rows]


def _cer(text: str) -> str:
    return WER.sub("CER", text)


def _text(cell) -> str:
    text = cell[1] if isinstance(cell, tuple) else cell
    return MISSING if text is None or text == "" else str(text)


def _value(cell):
    value = cell[0] if isinstance(cell, tuple) else cell
    return "" if value is None else round(value, 6) if isinstance(value, float) else guarded(value)


def guarded(value):
    """`value` for a CSV cell: text that a spreadsheet would take for a formula begins with an apostrophe.

    Text that is a plain number (`-1.2`) stays one.
    """
    harmful = isinstance(value, str) and value.startswith(FORMULA) and not NUMBER.fullmatch(value)
    return f"'{value}" if harmful else value


def to_csv(table: Table) -> str:
    """Plain values under the columns' keys, one line a row; empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out)  # its own line ends, or a carriage return inside a cell would stand there unquoted
    writer.writerow([guarded(column.key) for column in table.columns])
    writer.writerows([[_value(row.get(column.key)) for column in table.columns] for row in table.rows])
    return out.getvalue().replace("\r\n", "\n")


def escape_markdown(text: str) -> str:
    """`text` as Markdown shows it literally, on one line; what cannot be mistaken for syntax stays readable."""
    text = re.sub(r"[\\`*{}\[\]#|~$]", r"\\\g<0>", " ".join(text.split()))
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return re.sub(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)|^>|^[+-](?=\s)", r"\\\g<0>", text)


def to_markdown(table: Table) -> str:
    """The title, a pipe table, the notes."""
    return f"**{escape_markdown(table.title)}**\n\n{markdown_body(table)}"


def markdown_body(table: Table) -> str:
    """A pipe table and the notes below it."""
    columns = [(escape_markdown(column.heading), column.numeric) for column in table.shown(wide=False)]
    lines = pipe_table(columns, (map(escape_markdown, row) for row in table.texts(wide=False)))
    notes = ["", *[f"- {escape_markdown(note)}" for note in table.notes]] if table.notes else []
    return "\n".join([*lines, *notes]) + "\n"


def pipe_table(columns: Sequence[tuple[str, bool]], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a Markdown table: headings, each with whether its column holds numbers, and cells as they stand."""
    rule = f"|{'|'.join('--:' if numeric else ':--' for _, numeric in columns)}|"
    heading, *body = (f"| {' | '.join(cells)} |" for cells in ([heading for heading, _ in columns], *rows))
    return [heading, rule, *body]


def escape_latex(text: str) -> str:
    """`text` as LaTeX prints it literally."""
    escaped = "".join(LATEX.get(char, char) for char in " ".join(text.split()))
    # Behind the line break of a table row, `[` and `*` would be read as its argument.
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


def to_latex(table: Table) -> str:
    """A `table*` environment, scaled to the text width, for a document that loads `booktabs` and `graphicx`."""
    columns = table.shown(wide=False)
    align = "".join("r" if column.numeric else "l" for column in columns)
    lines = [r"\begin{table*}", r"\centering", rf"\caption{{{escape_latex(table.title)}}}"]
    lines += [r"\resizebox{\linewidth}{!}{%", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines.append(" & ".join(escape_latex(column.heading) for column in columns) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(map(escape_latex, row)) + r" \\" for row in table.texts(wide=False)]
    lines += [r"\bottomrule", r"\end{tabular}}", ""]
    lines += [rf"{{\footnotesize {escape_latex(note)}\par}}" for note in table.notes]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def to_html(table: Table) -> str:
    """A page of its own that needs nothing else; jinja2 escapes every cell."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    folder = Path(__file__).parent
    environment = Environment(loader=FileSystemLoader(folder), autoescape=select_autoescape(["html"]))
    return environment.get_template("table.html").render(table=table, columns=table.shown(wide=True)) + "\n"


WRITERS = {"csv": to_csv, "md": to_markdown, "tex": to_latex, "html": to_html}


def files(table: Table, folder: Path) -> dict[Path, str]:
    """The content of each file of a table; nothing is written yet."""
    return {folder / f"{table.name}.{suffix}": write(table) for suffix, write in WRITERS.items()}
