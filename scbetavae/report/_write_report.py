"""Write the results of an AnnData as one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anndata import AnnData

from scbetavae._core import keys
from scbetavae._core.folders import staged_file

from . import _contents as contents
from . import _pictures as pictures

if TYPE_CHECKING:
    import os

_ENDINGS = (".html", ".htm")


def write_report(adata: AnnData, path: str | os.PathLike[str], *, title: str = "Latent dimensions") -> Path:
    """Write one HTML page about the latent dimensions, to read in any browser and to send to a colleague.

    The page holds what is stored in ``adata``, so it can be made later and elsewhere: data and model at a glance, cells before
    and after batch removal, a card for every dimension with a slider that moves its genes, scores with their null and ceiling,
    the batch-removal report, training curves, warnings, a methods paragraph, and the call, seed and versions to reproduce it.
    Parts without results are left out. It needs no network, and all that runs in it is a few lines of its own JavaScript.

    Parameters
    ----------
    adata
        Annotated data with results of a model, best after :meth:`BetaVAE.describe_dimensions`.
    path
        File to write, ``.html``. A file of this name is replaced once the page is complete.
    title
        Heading of the page.

    Returns
    -------
    The path.

    Raises
    ------
    TypeError
        If ``adata`` is not an AnnData.
    KeyError
        If it has no results.
    ValueError
        For a path with another ending, a folder, or a file in a folder that does not exist.

    See Also
    --------
    BetaVAE.write_report : the same for a model, which makes cards that are missing.

    Examples
    --------
    >>> import tempfile, scanpy as sc, scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> sc.pp.normalize_total(adata, target_sum=1e4)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=3)
    >>> _ = scbetavae.tl.describe_dimensions(adata, "bulk_labels", obsm_key="X_pca", loadings_key="PCs")
    >>> path = scbetavae.report.write_report(adata, tempfile.mkdtemp() + "/report.html")
    >>> path.name
    'report.html'
    """
    path = check_target(adata, path)
    page = _render(title=title, **_collect(adata))
    with staged_file(path) as staging:
        staging.write_text(page, encoding="utf-8")
    return path


def check_target(adata: Any, path: str | os.PathLike[str]) -> Path:
    """The path, after all checks of the arguments of `write_report` but the results."""
    if not isinstance(adata, AnnData):
        msg = f"adata is a {type(adata).__name__}, not an AnnData."
        raise TypeError(msg)
    if not isinstance(adata.uns.get(keys.UNS), Mapping):
        msg = 'adata.uns["betavae"] holds no results. Train a model on adata, or read the file that the command wrote.'
        raise KeyError(msg)
    path = Path(path)
    if path.suffix.lower() not in _ENDINGS:
        msg = f"path={str(path)!r} does not end with .html. Pass a file such as 'report.html'."
        raise ValueError(msg)
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        msg = f"path={str(path)!r} {problem}. Pass the name of a file in a folder that exists."
        raise ValueError(msg)
    return path


def _collect(adata: AnnData) -> dict[str, Any]:
    """What the template shows."""
    return {
        "glance": contents.glance(adata),
        "tiles": contents.tiles(adata),
        "warnings": contents.warnings_of(adata),
        "cards": contents.cards(adata),
        "no_cards": contents.why_no_cards(adata),
        "scores": contents.scores(adata),
        "removal": contents.removal(adata),
        "methods": contents.methods(adata),
        "references": contents.references(adata),
        "call": contents.call(adata),
        "versions": contents.versions(adata),
        "pictures": pictures.pictures(adata),
    }


def _render(**parts: Any) -> str:
    """The page. Everything is escaped; the responses of genes are JSON inside a script element."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("scbetavae.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    responses = {str(card["dimension"]): card.pop("responses") for card in parts["cards"]}
    template = environment.get_template("report.html.j2")
    return template.render(responses=_as_json(responses), **parts)


def _as_json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
