"""The corrections as a page with their pictures."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image, ImageOps

from storage.tables.schema import Correction

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Corrections</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark }
body { font: 15px/1.4 system-ui, sans-serif; margin: 24px; background: Canvas; color: CanvasText }
ul { list-style: none; padding: 0; display: grid; gap: 16px;
     grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) }
img { width: 84px; height: 84px; image-rendering: pixelated; border: 1px solid #8888 }
small { opacity: .7; display: block; overflow-wrap: anywhere }
.revoked { opacity: .4; text-decoration: line-through }
</style></head><body>
"""


def page(rows: Sequence[Correction]) -> str:
    """HTML with a picture of each correction; nothing on it comes from elsewhere."""
    items = "\n".join(_item(row) for row in rows)
    return f"{HEAD}<h1>{len(rows):,} corrections</h1>\n<ul>\n{items}\n</ul></body></html>\n"


def _item(row: Correction) -> str:
    picture = io.BytesIO()
    ImageOps.invert(Image.frombytes("L", (28, 28), row.image)).save(picture, "PNG")
    data = base64.b64encode(picture.getvalue()).decode()
    said = "" if row.predicted is None else f", not {row.predicted}"
    return (
        f"<li{' class=revoked' if row.revoked_at else ''}>"
        f'<img src="data:image/png;base64,{data}" alt="a {row.label}">'
        f"<div><b>{row.label}</b>{said}</div>"
        f"<small>{row.digest[:12]}<br>{row.corrected_at:%Y-%m-%d %H:%M}<br>"
        f"{escape(row.actor)}</small></li>"
    )
