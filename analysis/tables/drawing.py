"""How all figures look, and what they are saved as. Equal results give equal bytes."""

import io
from collections.abc import Callable

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
"""Okabe and Ito's, safe for colour-blind readers."""
MARKERS = ["o", "D", "^", "s", "v", "P"]
SETTINGS = {
    "svg.hashsalt": "foldbench",  # ids in the file do not depend on the run
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar in a system's name is a dollar
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
METADATA = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


def saved(figure, named: Callable[[str], str] = str) -> dict[str, bytes]:
    """A matplotlib figure as `{"svg": bytes, "pdf": bytes, "png": bytes}`; `named` says what its labels call an error
    rate (`Experiment.named`)."""
    return {kind: drawn_as(figure, kind, named) for kind in ("svg", "pdf", "png")}


def drawn_as(figure, kind: str, named: Callable[[str], str] = str) -> bytes:
    """One of these files."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if named(text.get_text()) != text.get_text():
            text.set_text(named(text.get_text()))
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=METADATA.get(kind), dpi=150)
    return out.getvalue()
