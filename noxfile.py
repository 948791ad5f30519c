"""The checks of the project, each defined once: .ci/run, the GitHub workflow, pre-commit and contributors call these sessions.

``nox`` runs all of them in the environment in which it is installed, ``nox -s style imports`` some.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["style", "imports", "types", "tests", "docs", "tutorials"]


@nox.session
def style(session: nox.Session) -> None:
    """Style of code and docstrings; ``nox -s style -- --fix`` mends what it can."""
    fix = "--fix" in session.posargs
    session.run("ruff", "check", "--no-cache", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", "--no-cache", *([] if fix else ["--check"]), ".")


@nox.session
def imports(session: nox.Session) -> None:
    """Imports point one way."""
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Types of the package."""
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests, and the examples in docstrings."""
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Documentation; a warning is an error."""
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", *(session.posargs or ["docs/_build/html"])
    )


@nox.session
def tutorials(session: nox.Session) -> None:
    """Every notebook runs from top to bottom."""
    for notebook in sorted(Path("tutorials").glob("*.ipynb")):
        session.run("jupyter", "execute", str(notebook))
