"""How all figures look, and what they are saved as. Equal results give equal bytes."""

import io

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


def saved(figure) -> dict[str, bytes]:
    """A matplotlib figure as `{"svg": bytes, "pdf": bytes, "png": bytes}`."""
    return {kind: drawn_as(figure, kind) for kind in ("svg", "pdf", "png")}


def drawn_as(figure, kind: str) -> bytes:
    """One of these files."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=METADATA.get(kind), dpi=150)
    return out.getvalue()
