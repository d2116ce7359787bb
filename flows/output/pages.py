"""Self-contained HTML pages, from the templates beside this file; every value is escaped."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image, ImageOps

from storage.tables.schema import Correction


def corrections_page(rows: Sequence[Correction]) -> str:
    """Render a picture of each correction, with its label."""
    return _render("corrections.html", corrections=rows, picture=_picture)


def report_page(markdown: str) -> str:
    """Render the report of a run."""
    # "js-default" escapes HTML in the Markdown.
    body = Markup(MarkdownIt("js-default").render(markdown))  # noqa: S704
    return _render("layout.html", title=markdown.partition("\n")[0].lstrip("# "), body=body)


def _render(template: str, **values: Any) -> str:
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(values)


def _picture(image: bytes) -> str:
    """Encode an image of 28 x 28 as a data URL, ink dark on light paper."""
    png = io.BytesIO()
    ImageOps.invert(Image.frombytes("L", (28, 28), image)).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
