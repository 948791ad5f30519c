"""Walk along latent dimensions and see which genes respond."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae._core.checks import check_adata
from scbetavae.metrics import active_dimensions
from scbetavae.tl import keep_top_genes

from ._decoding_inputs import gene_positions
from ._traversal_inputs import Anchors, Walk, read_anchors, read_dims, read_range, steps
from ._traversal_responses import Responses, StepMoments, log_expression

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from ._decoding_inputs import DecoderConditions

_STORED_ROWS = 500_000
_STORED_GENES = 100


class TraversalMixin:
    """Walk along latent dimensions and see which genes respond."""

    def traverse(  # noqa: PLR0913 - independent choices, each with a default
        self,
        dims: int | Sequence[int] | None = None,
        *,
        low: float | None = None,
        high: float | None = None,
        n_steps: int = 7,
        around: str | Mapping[str, Any] | Sequence[Any] | np.ndarray = "cells",
        scale: Literal["prior", "quantile"] = "prior",
        n_anchors: int = 100,
        gene_list: Sequence[str] | None = None,
        adata: AnnData | None = None,
        seed: int = 0,
        key_added: str = _keys.TRAVERSAL,
    ) -> pd.DataFrame:
        r"""Move along one dimension at a time and record how each gene responds.

        Every anchor, a real cell, keeps its other dimensions, its batch and its covariates, and is its own control:

        .. math:: \mathrm{LFC}_{g}(d, v) = \frac{1}{n} \sum_{a=1}^{n}
            \log_2 \frac{\rho_g(z_a \text{ with } z_{ad} = v)}{\rho_g(z_a \text{ with } z_{ad} = r_d)}

        with :math:`\rho` the normalized expression of :meth:`decode` and :math:`r_d` the reference of the dimension, the same
        for all anchors and steps: the prior mean for ``scale="prior"``, the median of the cells for ``scale="quantile"``.

        Parameters
        ----------
        dims
            Dimensions by number; ``None`` for all active ones. An inactive one that is asked for is walked, with a warning.
        low, high
            Ends of the steps: in standard deviations of the prior around its mean, by default -3 and 3; for
            ``scale="quantile"``, quantiles of the cells' codes, by default 0.01 and 0.99.
        n_steps
            Values of each dimension, evenly spaced between the ends, at least 2.
        around
            Where to start. ``"cells"``: cells drawn from all. A dict, for example ``{"cell_type": "B cell"}``: cells drawn from
            this group; several keys must all hold, and a list of values takes any of them. Names or row numbers of cells, or
            a boolean mask: these cells, all of them. ``"mean"``: the mean code of all cells, a place where perhaps no cell
            is, and without standard error.
        scale
            Whether every dimension takes the same values (``"prior"``), or goes from one quantile of its data to another.
        n_anchors
            Cells to draw, at most.
        gene_list
            Genes to report; ``None`` for all. Expression is relative to all genes of the model either way.
        adata
            Cells of the steps; those of the model unless given.
        seed
            Seed of the draw of anchors.
        key_added
            Name under which results are stored.

        Returns
        -------
        DataFrame
            A row for each dimension, step and gene, in this order: ``dimension``; ``step`` from 0; ``value``, the latent
            coordinate; ``gene``, categorical; ``log_fold_change``, in log2 units; ``standard_error``, over anchors, which
            says how much the response differs between cells, not how sure the model is of it; ``expression``, mean over
            anchors of the expected counts in a cell of 10,000 (at size factor 1 for a model with ``size_factor_key``);
            ``in_range``, whether the value lies between the 0.5% and 99.5% quantiles of the posterior means of the
            cells, those of the group if one is given. Off the support no cell backs what the decoder says: read no genes there.

        Written to ``.uns["betavae"][key_added]``: the same frame where it has at most 500,000 rows, otherwise the 100 most
        rising and 100 most falling genes of each dimension, at every step; and with ``_params``, how it was made.

        Raises
        ------
        ValueError
            For dimensions, ends, steps or anchors that do not fit, or if no dimension is active.
        KeyError
            For a column, cell or gene that is not there.
        RuntimeError
            If the model is not trained.

        Warns
        -----
        UserWarning
            If an inactive dimension is walked.

        See Also
        --------
        scbetavae.tl.rank_dimension_genes : top genes of each dimension and direction.
        scbetavae.pl.traversal : genes x steps.

        Notes
        -----
        Streamed: beside the frame of 27 to 29 bytes a row, memory holds one dimension and 256 cells at a time.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
        >>> model = scbetavae.model.BetaVAE(adata, n_latent=4)
        >>> model = model.train(max_epochs=2, enable_progress_bar=False, accelerator="cpu")
        >>> frame = model.traverse([0, 1], around={"bulk_labels": "Dendritic"}, n_steps=5)
        >>> frame.groupby(["dimension", "step"]).size().tolist() == [adata.n_vars] * 10
        True
        """
        self._check_if_trained(warn=False)
        adata = self._cells_to_steps(adata)
        check_adata(adata, key_added=key_added)
        ends = read_range(low, high, n_steps, scale)
        wanted = read_dims(dims, self.module.n_latent)
        anchors = read_anchors(adata, around, n_anchors, seed)
        var_names = self.get_var_names()
        genes = gene_positions(gene_list, var_names)
        conditions = self._conditions_of_anchors(adata, anchors)

        means, kl = self._normal_means(adata)
        wanted = self._choose_dims(wanted, means, kl)
        priors = self._prior_moments()
        searches = [steps(means[anchors.population], int(d), ends, n_steps, scale, priors[d]) for d in wanted]
        starts = means[anchors.rows]
        starts = starts.mean(axis=0, keepdims=True) if anchors.is_mean else starts
        responses = Responses(len(wanted), n_steps, self.module.n_input if genes is None else len(genes))
        with self._decoding():
            for place, (dimension, path) in enumerate(zip(wanted, searches, strict=True)):
                responses.put(place, self._responses(starts, conditions, int(dimension), path, genes))
        frame = responses.frame(
            wanted, searches, np.asarray(var_names) if genes is None else np.asarray(var_names)[genes]
        )

        whole = len(frame) <= _STORED_ROWS
        params = {
            "around": anchors.words,
            "n_anchors": len(starts),
            "scale": scale,
            "low": ends[0],
            "high": ends[1],
            "n_steps": int(n_steps),
            "reference": "prior mean" if scale == "prior" else "median of the cells",
            "seed": int(seed),
            "stored": "all genes" if whole else f"top {_STORED_GENES} genes of each dimension and direction",
        }
        table = frame.copy() if whole else keep_top_genes(frame, _STORED_GENES)
        _stored.store(adata, key_added, {"": table}, params, self._describing(means))
        return frame

    def _cells_to_steps(self, adata: AnnData | None) -> AnnData:
        if adata is None and self.adata is None:
            msg = "The model was trained on a data module and holds no cells to start from: traverse(dims, adata=...)."
            raise ValueError(msg)
        return self.adata if adata is None else adata

    def _conditions_of_anchors(self, adata: AnnData, anchors: Anchors) -> DecoderConditions:
        conditions = self._read_conditions(len(anchors.rows), adata=adata, indices=anchors.rows)
        if not anchors.is_mean:
            return conditions
        if not all(part is None or (part == part[0]).all() for part in conditions):
            msg = (
                'around="mean" needs one batch and one value of each covariate, because the decoder is told them and their mean '
                'is none of them. Take around="cells", where every cell keeps its own.'
            )
            raise ValueError(msg)
        return conditions.rows(slice(0, 1))

    def _normal_means(self, adata: AnnData) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means of the normal variable behind the codes, and the mean divergence of each dimension in nats."""
        with torch.random.fork_rng(devices=[]):  # a data loader draws a seed it does not need
            means, variances = self.get_latent_representation(adata, return_dist=True)
        posterior = torch.distributions.Normal(
            torch.as_tensor(means, dtype=torch.float64),
            torch.as_tensor(variances, dtype=torch.float64).sqrt(),
            validate_args=False,
        )
        with torch.inference_mode():
            kl = self.module.kl_divergence(posterior).mean(dim=0).numpy()
        return means.astype(np.float32), kl

    def _choose_dims(self, wanted: np.ndarray | None, means: np.ndarray, kl: np.ndarray) -> np.ndarray:
        active = active_dimensions(means, kl=kl)
        if wanted is None:
            if not active.any():
                msg = (
                    f"None of the {len(kl)} dimensions is active: all hold under 0.01 nats or hardly vary. The model collapsed; "
                    "train with a smaller beta or a longer warm-up, or name dimensions to steps them all the same."
                )
                raise ValueError(msg)
            return np.flatnonzero(active)
        if not active[wanted].all():
            dead = [int(d) for d in wanted if not active[d]]
            msg = f"Dimensions {dead} are inactive: the decoder hardly reads them, and what responds to them is noise."
            warnings.warn(msg, UserWarning, stacklevel=3)
        return wanted

    def _prior_moments(self) -> list[tuple[float, float]]:
        """Mean and standard deviation of the prior of each dimension."""
        return [(0.0, 1.0)] * self.module.n_latent

    def _responses(
        self, starts: np.ndarray, conditions: DecoderConditions, dimension: int, path: Walk, genes: np.ndarray | None
    ) -> StepMoments:
        """What one dimension does, from a few anchors at a time."""
        moments = StepMoments(len(path.values), self.module.use_size_factor_key)
        chosen = None if genes is None else torch.as_tensor(genes, device=self.device)
        size = self._decoding_rows(None)
        for first in range(0, len(starts), size):
            rows = slice(first, first + size)
            codes = torch.as_tensor(starts[rows], device=self.device).clone()

            def at(value: float, codes: torch.Tensor = codes, rows: slice = rows) -> torch.Tensor:
                codes[:, dimension] = value
                hidden = self._decode_hidden(self.module.z_encoder.z_transformation(codes), conditions.rows(rows))
                logs = log_expression(self.module.decoder.px_scale_decoder, hidden)
                return logs if chosen is None else logs[:, chosen]

            reference = at(path.reference)
            for step, value in enumerate(path.values.tolist()):
                moments.add(step, at(value), reference)
        return moments
