"""The pieces of the page: every text is escaped here, every picture embedded."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "bullets",
    "document",
    "heading",
    "navigation",
    "paragraph",
    "picture",
    "properties",
    "section",
    "subheading",
    "table",
]

_RESOLUTION = 100  # pixels per inch, as a figure's unless said otherwise

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 1180px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.4rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 2px solid #0072b2; }
h3 { font-size: 1.1rem; margin: 1.8rem 0 .3rem; }
.lead { font-size: 1.15rem; }
.failure { padding: .5rem .8rem; background: #f4f6f8; border-left: 4px solid #d55e00; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; list-style: none; }
a { color: #005a8d; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; }
caption { text-align: left; font-size: .9rem; color: #444; caption-side: bottom;
  padding-top: .4rem; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; }
th.group { text-align: center; border-left: 1px solid #ddd; }
td.bad { background: #fbd9c6; font-weight: 600; }
figure { display: inline-block; vertical-align: top; margin: 1rem 1rem 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; color: #444; max-width: 64ch; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .15rem 1rem;
  margin: 0; }
dt { font-weight: 600; }
dd { margin: 0; overflow-wrap: anywhere; }
dd ul { margin: 0; padding-left: 1.2rem; }
"""

# The policy makes a browser refuse whatever the page does not itself contain.
_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def document(title: str, body: str) -> str:
    """Whole page around a body of markup."""
    return _DOCUMENT.format(title=escape(title), style=_STYLE, body=body)


def heading(text: str) -> str:
    """Heading of the page."""
    return f"<h1>{escape(text)}</h1>"


def subheading(text: str) -> str:
    """Heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def section(anchor: str, heading: str, *content: str) -> str:
    """Section of markup with a heading that :func:`navigation` links to."""
    return f'<section id="{escape(anchor)}">\n<h2>{escape(heading)}</h2>\n' + (
        "\n".join(content) + "\n</section>"
    )


def navigation(anchors: Mapping[str, str]) -> str:
    """Links to sections, heading by anchor."""
    links = (
        f'<li><a href="#{escape(anchor)}">{escape(heading)}</a></li>'
        for anchor, heading in anchors.items()
    )
    return f'<nav aria-label="sections"><ul>{"".join(links)}</ul></nav>'


def paragraph(text: str, *, kind: str = "") -> str:
    """Paragraph of plain text, in the style of a ``kind``: ``"lead"``, ``"failure"``.

    Examples
    --------
    >>> paragraph("spread < error")
    '<p>spread &lt; error</p>'
    """
    attribute = f' class="{escape(kind)}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def table(heads: list[str], rows: list[str], *, caption: str = "") -> str:
    """Table of plain heads and of rows of markup, each the row's cells."""
    header = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    text = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="wide"><table>{text}<thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def bullets(items: list[str]) -> str:
    """Bulleted list of plain texts."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def picture(figure: Figure, *, alt: str, caption: str = "") -> str:
    """Figure as an embedded PNG, with a text for those who do not see it."""
    # Laid out beforehand, it is drawn once and not twice.
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)  # "none" would keep a placeholder, and draw twice for it
    buffer = io.BytesIO()
    # Without the version of matplotlib, equal inputs give equal bytes.
    figure.savefig(buffer, format="png", dpi=_RESOLUTION, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    return f"<figure>{image}{text}</figure>"


def properties(value: Any) -> str:
    """Nested dicts, lists and plain values as definition lists.

    Examples
    --------
    >>> properties({"seeds": [1, 2], "R&D": True})
    '<dl><dt>seeds</dt><dd>1, 2</dd><dt>R&amp;D</dt><dd>yes</dd></dl>'
    """
    if isinstance(value, Mapping):
        items = (
            f"<dt>{escape(str(name))}</dt><dd>{properties(item)}</dd>"
            for name, item in value.items()
        )
        return f"<dl>{''.join(items)}</dl>"
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping | list | tuple) for item in value):
            return f"<ul>{''.join(f'<li>{properties(item)}</li>' for item in value)}</ul>"
        return ", ".join(properties(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return escape(f"{value:.6g}")
    return escape("not given" if value is None else str(value))
