"""Sphinx settings: the documentation is Markdown."""

project = "mmret"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 2
html_theme = "alabaster"
html_theme_options = {"description": "Train and compare multimodal retrievers", "fixed_sidebar": True}
