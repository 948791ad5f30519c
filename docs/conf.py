"""Sphinx configuration. Build from the root of the repository: ``sphinx-build -W docs docs/_build/html``."""

import shutil
from pathlib import Path

import scbetavae

HERE = Path(__file__).parent

# Sphinx reads only its own folder, so every build copies the notebooks there. Not every system checks out symbolic links.
TUTORIALS = HERE / "tutorials" / "notebooks"
shutil.rmtree(TUTORIALS, ignore_errors=True)
TUTORIALS.mkdir(parents=True)
for _notebook in sorted((HERE.parent / "tutorials").glob("*.ipynb")):
    shutil.copy(_notebook, TUTORIALS)

project = "scbetavae"
author = "The scbetavae developers"
project_copyright = f"2026, {author}"
release = scbetavae.__version__
version = release

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
if not any(TUTORIALS.iterdir()):
    exclude_patterns.append("tutorials.md")  # an empty list of notebooks would be an error
    suppress_warnings = ["toc.excluded", "toc.not_readable"]

# A reference to a public name of ours must lead somewhere. Names of other packages are left as text: looking them up
# would need the network, which a build may not have.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!scbetavae\b).*|.*\._\w.*")]

# Each sub-package is one page that lists the names in its __all__, and each name has its own page.
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True

# Inherited members are documented by scvi-tools: their docstrings refer to pages of its site. What BetaVAE has from our own
# functions is the exception: the template of a class asks for all, and _skip_members_of_others leaves the others out.
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
napoleon_google_docstring = False
napoleon_use_rtype = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are stored executed, and the checks of the project execute them again

html_theme = "furo"
html_title = f"scbetavae {release}"


def _skip_members_of_others(app, what, name, obj, skip, options):  # noqa: ARG001
    """Leave out what BetaVAE inherits from scvi-tools, and keep what it has from our own functions."""
    origin = getattr(obj, "fget", None) or getattr(obj, "__func__", None) or obj
    return True if getattr(origin, "__module__", None) and not origin.__module__.startswith("scbetavae") else None


def setup(app):
    """Connect to Sphinx."""
    app.connect("autodoc-skip-member", _skip_members_of_others)
