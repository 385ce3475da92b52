"""`results.html`: RESULTS.md as one page that needs no other file, for the workflow report and for browsers."""

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """
:root { color-scheme: light dark; --line: #8886; --head: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 90rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--head); }
img { max-width: 100%; background: #fff; }
blockquote { border-left: .3rem solid #c60; margin-left: 0; padding-left: 1rem; }
"""


def results_html(text: str, title: str, images: dict[str, bytes]) -> str:
    """The page for the Markdown `text`. `images` holds the SVG files that it shows, by the path that it names.

    Raw HTML in the text is shown, not obeyed: titles, notes and words are untrusted.
    """
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    for path, content in images.items():
        address = f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
        body = body.replace(f'src="{path}"', f'src="{address}"')
    # Links to files beside the page lead nowhere once it is embedded in the report: keep their text.
    body = re.sub(r'<a href="(?:(?:tables|figures)/|claims\.)[^"]*">([^<]*)</a>', r"\1", body)
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def page(text: str, title: str, contents: dict[Path, bytes], folder: Path) -> bytes:
    """The page with the SVG figures among `contents` embedded."""
    images = {str(path.relative_to(folder)): data for path, data in contents.items() if path.suffix == ".svg"}
    return results_html(text, title, images).encode()
