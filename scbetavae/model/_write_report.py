"""Write one HTML page about a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbetavae._core import keys, results

from ._latent import cells_of

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from anndata import AnnData

    from ._betavae import BetaVAE


def write_report(
    self: BetaVAE, path: str | os.PathLike[str], *, adata: AnnData | None = None, title: str = "Latent dimensions"
) -> Path:
    """Write one HTML page about the latent dimensions: :func:`scbetavae.report.write_report`.

    Cards that are missing are made with the defaults of :meth:`describe_dimensions`. Scores, batch removal and layouts of the
    cells are shown if they were computed.

    Parameters
    ----------
    path, title
        As in :func:`scbetavae.report.write_report`.
    adata
        Cells; those of the model unless given. Not a view.

    Returns
    -------
    The path.

    Raises
    ------
    KeyError, TypeError, ValueError
        As :func:`scbetavae.report.write_report`, before anything is computed.

    Examples
    --------
    >>> import tempfile, scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=20, enable_progress_bar=False)
    >>> model.write_report(tempfile.mkdtemp() + "/report.html").name
    'report.html'
    """
    from scbetavae import report  # matplotlib loads with it

    adata = cells_of(self, adata, "write_report(path, adata=...)")
    report.check_target(adata, path)
    if keys.DIMENSIONS not in adata.uns[keys.UNS] or not results.describes(adata, keys.DIMENSIONS, keys.LATENT):
        self.describe_dimensions(adata=adata)
    return report.write_report(adata, path, title=title)
