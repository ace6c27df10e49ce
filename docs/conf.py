"""How `make docs` builds these pages; warnings are errors there."""

from __future__ import annotations

import rolehost

project = "rolehost"
author = "The rolehost founders"
project_copyright = "the rolehost founders, MIT licence"
version = release = rolehost.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
suppress_warnings = [
    "myst.xref_missing",  # links out of these pages, to files of the repository: they work where it is read
]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

default_role = "literal"  # single backticks in docstrings are code

html_theme = "furo"
html_title = "rolehost"
html_copy_source = False
html_show_sourcelink = False
