"""Pages that stand alone: one look for all of them, and no request leaves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def write_page(path: str | Path, template: Path, filters: dict[str, Callable[..., Any]], **values: Any) -> Path:
    """Render a template, which has the pages' common `style` among its values; all of the file or nothing."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(filters)
    style = Markup(Path(__file__).with_name("page.css").read_text("utf-8").rstrip())
    page = environment.from_string(template.read_text("utf-8")).render(style=style, **values)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(page.lstrip(), "utf-8")
    part.replace(path)
    return path
