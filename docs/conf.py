# ruff: noqa: INP001 (Sphinx wants this very file; the folder is no package)
"""How the pages of this folder become a site: `make docs`. Why it is made so: decisions/docs-site.md."""

from __future__ import annotations

project = "grafos"
project_copyright = "grafos contributors, Apache-2.0"

extensions = ["myst_parser"]
exclude_patterns = ["conf.py"]
root_doc = "index"
nitpicky = True  # a reference that leads nowhere is a warning, and `make docs` takes warnings for errors

myst_heading_anchors = 3  # links to headings, as `leases.md#renewal`; deeper headings have no names of their own

html_theme = "furo"
html_title = "grafos"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
