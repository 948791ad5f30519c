"""Traverse latent dimensions and record which genes respond."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Unpack

import numpy as np
import torch

from scbetavae import tl
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, check_dimensions, read_options
from scbetavae._core.options import TraversalOptions

from ._decoding import decode_hidden, evaluating, rows_at_once
from ._decoding_inputs import gene_positions, read_conditions
from ._latent import Latent, cells_of, compute_latent, describing
from ._traversal_inputs import Anchors, Path, path_of, read_anchors, read_range
from ._traversal_responses import COLUMNS, COUNTS, Moments, log_expression, long_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from ._betavae import BetaVAE
    from ._decoding_inputs import DecoderConditions

N_STEPS = 7
_DEFAULTS: dict[str, Any] = {"n_anchors": 100, "seed": 0, "key_added": keys.TRAVERSAL}
_CARD_STEPS = 13  # of cards: half a standard deviation each, so that narrow dimensions have steps within the data
_STORED_ROWS = 500_000
_STORED_GENES = 100


def traverse(  # noqa: PLR0913 - self and eight arguments
    self: BetaVAE,
    dimensions: int | Sequence[int] | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    n_steps: int = N_STEPS,
    around: str | Mapping[str, Any] | Sequence[Any] | np.ndarray = "cells",
    scale: Literal["prior", "quantile"] = "prior",
    gene_list: Sequence[str] | None = None,
    adata: AnnData | None = None,
    **options: Unpack[TraversalOptions],
) -> pd.DataFrame:
    r"""Move along one dimension at a time and record how each gene responds.

    Every anchor, a real cell, keeps its other dimensions, its batch and its covariates, and is its own control:

    .. math:: \mathrm{LFC}_{g}(d, v) = \frac{1}{n} \sum_{a=1}^{n}
        \log_2 \frac{\rho_g(z_a \text{ with } z_{ad} = v)}{\rho_g(z_a \text{ with } z_{ad} = r_d)}

    with :math:`\rho` the normalized expression of :meth:`decode` and :math:`r_d` the reference of the dimension, the same for all
    anchors and steps: the prior mean for ``scale="prior"``, the median of the cells for ``scale="quantile"``.

    Parameters
    ----------
    dimensions
        Dimensions by number; ``None`` for all active ones. An inactive one that is named is traversed, with a warning.
    low, high
        First and last value: in standard deviations of the prior around its mean, by default -3 and 3; for ``scale="quantile"``,
        quantiles of the cells' posterior means, by default 0.01 and 0.99.
    n_steps
        Values of each dimension, evenly spaced, at least 2.
    around
        Where to start. ``"cells"``: cells drawn from all. A dict, for example ``{"cell_type": "B cell"}``: cells drawn from this
        group; several keys must all hold, and a list of values takes any of them. Names or row numbers of cells, or a boolean
        mask: all of these cells. ``"mean"``: the mean of all cells, a point that perhaps no cell is near, and without standard
        error.
    scale
        Whether every dimension takes the same values (``"prior"``), or goes from one quantile of its data to another.
    gene_list
        Genes to report; ``None`` for all. Expression is relative to all genes of the model either way.
    adata
        Cells to start from; those of the model unless given.
    **options
        ``n_anchors`` (100 by default): cells to draw, at most. ``seed`` (0) of their draw. ``key_added`` (``"traversal"``): name
        of the result in ``.uns["betavae"]``.

    Returns
    -------
    DataFrame
        One row per dimension, step and gene, in this order: ``dimension``; ``step`` from 0; ``value``, the latent coordinate;
        ``gene``, categorical; ``log_fold_change``, in log2 units; ``standard_error``, over anchors: how much the response differs
        between cells, not how sure the model is of it; ``expression``, mean over anchors of the expected counts in a cell of
        10,000 (at size factor 1 for a model with ``size_factor_key``); ``in_range``, whether the value is within the observed
        range, the 0.5% to 99.5% quantiles of the posterior means of the cells, or of the group if one is given. Outside it no
        cell supports the decoder's output: do not interpret genes there.

    Written to ``.uns["betavae"][key_added]``: the same frame where it has at most 500,000 rows, otherwise the 100 most rising and
    100 most falling genes of each dimension, at every step; and with ``_params``, how it was made.

    Raises
    ------
    ValueError
        For dimensions, ends, steps or anchors that do not fit, or if no dimension is active.
    KeyError
        For a column, cell or gene that does not exist.

    See Also
    --------
    scbetavae.tl.rank_dimension_genes : top genes of each dimension and direction.
    scbetavae.pl.traversal : genes x steps.

    Notes
    -----
    Streamed: apart from the frame of 27 to 29 bytes a row, memory holds one dimension and 256 cells at a time.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=2, enable_progress_bar=False)
    >>> frame = model.traverse([0, 1], around={"bulk_labels": "Dendritic"}, n_steps=5)
    >>> frame.groupby(["dimension", "step"]).size().tolist() == [adata.n_vars] * 10
    True
    """
    n_anchors, seed, key_added = read_options(traverse, options, _DEFAULTS).values()
    self._check_if_trained(warn=False)
    adata = cells_of(self, adata, "traverse(dimensions, adata=...)")
    check_adata(adata, key_added=key_added)
    ends = read_range(low, high, n_steps, scale)
    named = None if dimensions is None else check_dimensions(dimensions, self.module.n_dimensions)
    anchors = read_anchors(adata, around, n_anchors, seed)
    var_names = np.asarray(self.get_var_names())
    genes = gene_positions(gene_list, var_names)
    conditions = _conditions_of_anchors(self, adata, anchors)

    latent = compute_latent(self, adata, normal=True)
    wanted = _active(latent) if named is None else np.array(named)
    if not latent.active[wanted].all():
        inactive = [int(d) for d in wanted if not latent.active[d]]
        msg = f"Dimensions {inactive} are inactive: the decoder hardly reads them, and genes that respond to them are noise."
        warnings.warn(msg, UserWarning, stacklevel=2)
    frame = _run(self, latent, anchors, conditions, wanted, genes, (ends, n_steps, scale))
    how = {"around": anchors.text, "n_anchors": 1 if anchors.is_mean else len(anchors.rows), "seed": int(seed)}
    how |= {"scale": scale, "low": ends[0], "high": ends[1], "n_steps": int(n_steps)}
    store_traversal(self, adata, latent, frame, how, key_added)
    return frame


def store_traversal(
    self: BetaVAE, adata: AnnData, latent: Latent, frame: pd.DataFrame, how: dict[str, Any], key_added: str
) -> None:
    """Store a traversal and how it was made; of a large one the top genes."""
    whole = len(frame) <= _STORED_ROWS
    how = {
        **how,
        "reference": "prior mean" if how["scale"] == "prior" else "median of the cells",
        "stored": tl.STORED_WHOLE if whole else f"top {_STORED_GENES} genes of each dimension and direction",
    }
    table = frame.copy() if whole else tl.keep_top_genes(frame, _STORED_GENES)
    results.store(adata, key_added, {"": table}, how, describing(self, latent))


class CardTraversals(NamedTuple):
    """Traversals of all active dimensions for their cards, not stored."""

    steps: pd.DataFrame
    """From -3 to 3, for the slider of the report."""
    how: dict[str, Any]
    """How it was made."""
    ends: pd.DataFrame
    """From the low to the high end of the cells, for the changes of genes."""


def traverse_for_cards(self: BetaVAE, adata: AnnData, latent: Latent) -> CardTraversals:
    """Both traversals, around the same cells as `traverse` by default."""
    anchors = read_anchors(adata, "cells", _DEFAULTS["n_anchors"], 0)
    conditions = _conditions_of_anchors(self, adata, anchors)
    wanted = np.flatnonzero(latent.active)
    low, high = read_range(None, None, _CARD_STEPS, "prior")
    how = {"around": anchors.text, "n_anchors": len(anchors.rows), "seed": 0}
    how |= {"scale": "prior", "low": low, "high": high, "n_steps": _CARD_STEPS}
    steps = _run(self, latent, anchors, conditions, wanted, None, ((low, high), _CARD_STEPS, "prior"))
    path = (read_range(None, None, 2, "quantile"), 2, "quantile")
    return CardTraversals(steps, how, _run(self, latent, anchors, conditions, wanted, None, path))


def _run(
    self: BetaVAE,
    latent: Latent,
    anchors: Anchors,
    conditions: DecoderConditions,
    wanted: np.ndarray,
    genes: np.ndarray | None,
    path: tuple[tuple[float, float], int, str],
) -> pd.DataFrame:
    """The frame of a traversal of these dimensions; ``path`` is the ends, the number of steps and the scale."""
    ends, n_steps, scale = path
    paths = [path_of(latent.means[anchors.population, d], ends, n_steps, scale) for d in wanted]
    starts = latent.means[anchors.rows]
    starts = starts.mean(axis=0, keepdims=True) if anchors.is_mean else starts
    names = np.asarray(self.get_var_names())
    names = names if genes is None else names[genes]
    responses = np.empty((len(COLUMNS), len(wanted), n_steps, len(names)), dtype=np.float32)
    counts = 1.0 if self.module.use_size_factor_key else COUNTS  # expression at a size factor has no fixed sum
    with evaluating(self):
        for place, (dimension, of_dimension) in enumerate(zip(wanted, paths, strict=True)):
            found = _responses(self, starts, conditions, int(dimension), of_dimension, genes)
            responses[:, place] = found.columns(counts)
    return long_frame(wanted, paths, names, responses)


def _conditions_of_anchors(self: BetaVAE, adata: AnnData, anchors: Anchors) -> DecoderConditions:
    """Conditions of every anchor, or those that all share."""
    conditions = read_conditions(self, len(anchors.rows), adata=adata, indices=anchors.rows)
    if not anchors.is_mean:
        return conditions
    if not all(part is None or (part == part[0]).all() for part in conditions):
        msg = (
            'around="mean" needs one batch and one value of each covariate, because the decoder is conditioned on them and their '
            'mean is none of them. Pass around="cells", where every cell keeps its own.'
        )
        raise ValueError(msg)
    return conditions.rows(slice(0, 1))


def _active(latent: Latent) -> np.ndarray:
    """Active dimensions, of which there must be one."""
    if not latent.active.any():
        msg = (
            f"None of the {len(latent.active)} dimensions is active: each carries under 0.01 nats or hardly varies. The model "
            "collapsed; train with a smaller beta or a longer warm-up, or name the dimensions to traverse them nevertheless."
        )
        raise ValueError(msg)
    return np.flatnonzero(latent.active)


def _responses(
    self: BetaVAE,
    starts: np.ndarray,
    conditions: DecoderConditions,
    dimension: int,
    path: Path,
    genes: np.ndarray | None,
) -> Moments:
    """Responses to one dimension at every step, from a few anchors at a time."""
    moments = Moments(len(path.values), self.module.n_input if genes is None else len(genes), self.device)
    chosen = slice(None) if genes is None else torch.as_tensor(genes, device=self.device)
    size = rows_at_once(self)
    for first in range(0, len(starts), size):
        rows = slice(first, first + size)
        z = torch.as_tensor(starts[rows], device=self.device).clone()

        def at(value: float, z: torch.Tensor = z, rows: slice = rows) -> torch.Tensor:
            z[:, dimension] = value
            hidden = decode_hidden(self, self.module.z_encoder.z_transformation(z), conditions.rows(rows))
            return log_expression(self.module.decoder.px_scale_decoder, hidden)[:, chosen]

        reference = at(path.reference)
        for step, value in enumerate(path.values.tolist()):
            moments.add(step, at(value), reference)
    return moments
