"""The corrections as a page with their pictures."""

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageOps

from flows.output.html import render
from storage.tables.schema import Correction


def page(rows: Sequence[Correction]) -> str:
    """Render a self-contained page with a picture of each correction."""
    return render("corrections.html", corrections=rows, picture=_picture)


def _picture(image: bytes) -> str:
    """Encode an image of 28 x 28 as a data URL, ink dark on light paper."""
    png = io.BytesIO()
    ImageOps.invert(Image.frombytes("L", (28, 28), image)).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
