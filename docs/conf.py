"""How Sphinx builds these pages: `make docs`"""

import os

os.environ["WSLOWLEVEL_BACKEND"] = "python"  # whose docstrings speak for both backends

import wslowlevel

project = "wslowlevel"
author = "the wslowlevel maintainers"
version = release = wslowlevel.__version__
copyright = f"2026, {author}"  # noqa: A001

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["charts"]
default_role = "code"
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
napoleon_use_rtype = False
napoleon_use_ivar = True


def link_security(_app, _page, source):  # type: ignore[no-untyped-def]
    """What lies beside these pages in a checkout has one here."""
    source[0] = source[0].replace("(../SECURITY.md)", "(security.md)")


def setup(app):  # type: ignore[no-untyped-def]
    app.connect("source-read", link_security)


html_theme = "furo"
html_title = f"wslowlevel {version}"
html_copy_source = False
html_show_sphinx = False
