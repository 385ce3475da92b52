"""Figures that the report shows as they were drawn, as pictures inside the page."""

import base64

from analysis.inputs.results import Results
from analysis.tables.figures import draw_figure, figure_caption, figure_title


def drawing(results: Results, name: str) -> dict[str, str]:
    """Title, caption and a `data:` address of a figure."""
    picture = base64.b64encode(draw_figure(results, name)["svg"]).decode()
    return {
        "title": figure_title(results.experiment, name),
        "caption": figure_caption(results, name),
        "address": f"data:image/svg+xml;base64,{picture}",
    }
