"""Picture of the cells in two dimensions: scikit-learn's t-SNE for few cells, scanpy's UMAP for many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from anndata import AnnData

from scbetavae._core import keys, palette
from scbetavae._core.columns import as_classes, obs_of
from scbetavae.cli._train_arguments import MOST_FOR_TSNE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ZEROED = "_zeroed"
_PERPLEXITY = 30  # that of scikit-learn, where there are cells enough
KEYS = {"tsne": "X_tsne", "umap": keys.LATENT_UMAP}
ZEROED_KEYS = tuple(f"{key}{_ZEROED}" for key in KEYS.values())


class Layout(NamedTuple):
    """A layout: ``"tsne"`` or ``"umap"``."""

    name: str
    seed: int

    @property
    def key(self) -> str:
        """Entry of ``.obsm`` with the coordinates of the latent representation."""
        return KEYS[self.name]

    @property
    def zeroed_key(self) -> str:
        """The same without batch dimensions."""
        return f"{self.key}{_ZEROED}"

    def add(self, adata: AnnData) -> str:
        """Write coordinates of the latent representation to ``.obsm``; an action without a line in the report."""
        if self.name == "tsne":
            adata.obsm[self.key] = _tsne(np.asarray(adata.obsm[keys.LATENT]), self.seed)
        else:
            _umap(adata, keys.LATENT, self.seed)
        return ""

    def add_zeroed(self, adata: AnnData) -> str:
        """The same of the representation without batch dimensions; where nothing was removed, the same coordinates."""
        zeroed = np.asarray(adata.obsm[keys.LATENT_ZEROED])
        if np.array_equal(zeroed, adata.obsm[keys.LATENT]):
            adata.obsm[self.zeroed_key] = np.array(adata.obsm[self.key])
        elif self.name == "tsne":
            adata.obsm[self.zeroed_key] = _tsne(zeroed, self.seed)
        else:  # in a copy, because the neighbors in the file are those of the latent representation
            cells = AnnData(obs=obs_of(adata)[[]])
            cells.obsm[keys.LATENT_ZEROED] = zeroed
            _umap(cells, keys.LATENT_ZEROED, self.seed)
            adata.obsm[self.zeroed_key] = cells.obsm[keys.LATENT_UMAP]
        return ""

    def draw(self, adata: AnnData, colors: list[str]) -> Figure:
        """Scanpy's plot of the cells, batch and labels as classes; ``adata`` receives no colors."""
        import scanpy as sc
        from matplotlib import pyplot as plt

        obs = {name: as_classes(obs_of(adata)[name], "column").astype("category") for name in colors}
        cells = AnnData(obs=obs_of(adata)[[]].assign(**obs))
        cells.obsm[self.key] = adata.obsm[self.key]
        shades = palette.colors(max((column.nunique() for column in obs.values()), default=1))
        # One panel per row, so that no legend reaches into the next panel.
        settings: dict[str, Any] = {"palette": shades, "ncols": 1, "show": False, "return_fig": True}
        figure: Any = sc.pl.embedding(cells, self.key.removeprefix("X_"), color=colors or None, **settings)
        plt.close(figure)  # it stays out of pyplot's list
        return figure


def choose_layout(name: str, n_cells: int, seed: int) -> Layout | None:
    """The layout that was asked for; ``"auto"`` decides by the number of cells."""
    if name == "auto":
        name = "tsne" if n_cells <= MOST_FOR_TSNE else "umap"
    return None if name == "none" else Layout(name, seed)


def _tsne(embedding: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE coordinates, cells x 2; starts from the first two principal components, if the embedding has two."""
    from sklearn.manifold import TSNE

    start = "pca" if np.linalg.matrix_rank(embedding - embedding.mean(axis=0)) > 1 else "random"
    perplexity = min(_PERPLEXITY, (len(embedding) - 1) / 3)
    return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(embedding)


def _umap(adata: AnnData, obsm_key: str, seed: int) -> None:
    """Neighbors and UMAP coordinates."""
    import scanpy as sc

    sc.pp.neighbors(adata, use_rep=obsm_key, random_state=seed)
    sc.tl.umap(adata, random_state=seed)
