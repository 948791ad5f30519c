"""What guided dimensions hold: what is left of their covariates in the free dimensions, and the genes that they move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from scbetavae import metrics
from scbetavae._core import keys
from scbetavae._core.checks import check_adata, check_keys, check_whole_number
from scbetavae._core.columns import ALL_CELLS, class_texts, obs_of
from scbetavae._core.constants import MEAN_CELLS, MINIMUM_CELLS
from scbetavae._core.genes import gene_symbols_of
from scbetavae._core.results import store
from scbetavae._core.staging import staged

from ._decoding_inputs import has_conditions
from ._guided import at_coordinates, coordinates_of, guided_classes, guided_state
from ._guided_field import guided_covariates
from ._latent import cells_of, compute_latent

if TYPE_CHECKING:
    from anndata import AnnData

    from scbetavae.module import GuidedCovariate

    from ._betavae import BetaVAE
    from ._latent import Latent

_MOST_CELLS = 1000  # that are decoded at each level


def describe_guided(
    self: BetaVAE,
    groupby: str | None = None,
    *,
    adata: AnnData | None = None,
    n_genes: int = 50,
    gene_symbols: str | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Describe guided dimensions: how clean the free dimensions are of each covariate, and which genes each level moves.

    The decoder has a path of its own from guided dimensions to genes, :math:`A\, m(u)`: the effect that all cells share. What it
    adds to that for some cells is the departure from additivity.

    Parameters
    ----------
    groupby
        Column of ``.obs``, for example the cell type, within whose groups departures are looked for; ``None`` for the
        ``labels_key`` of :meth:`setup_anndata`, if there is one.
    adata
        Cells; those of the model unless given.
    n_genes
        Genes of each level, those with the largest change, at least 1.
    gene_symbols
        Column of ``.var`` with gene symbols, added as ``symbol`` and shown in plots; ``None`` for the names of the genes.
    n_bootstrap, seed
        Bootstrap replicates behind the intervals; seed of folds and of the cells that are decoded, at most 1000.

    Returns
    -------
    DataFrame with one row per covariate, also written to ``.uns["betavae"]["guided"]``:

    ``covariate``, ``dimensions``, ``n_levels``
        Name; numbers of its dimensions, as text; levels, 0 for a number.
    ``accuracy``, ``ci_low``, ``ci_high``
        k-NN accuracy (15 neighbors) or, of a number, r2 left in the free dimensions: 0 is chance; 95% bootstrap interval.
    ``held_out_accuracy``, ``held_out_ci_low``, ``held_out_ci_high``, ``n_held_out``
        The same on cells held out of training; NaN for other cells than the model's. Usually higher: the free dimensions of
        training cells are fitted to be clean.
    ``n_missing``
        Cells without a value, whose level is inferred.

    ``.uns["betavae"]["guided_genes"]`` has one row per covariate, level and gene: ``covariate``, ``level``, ``reference`` (the
    first level; of a number, one standard deviation above and below its mean), ``gene``, ``rank``, ``log2_fold_change`` (mean
    over cells, decoded at both levels), ``additive`` (that of the shared path alone), and ``departure``, how far the log2 fold
    change of one group of cells is from the mean, for the group ``departure_group`` where that is largest.

    Raises
    ------
    ValueError
        If no covariate is guided.

    See Also
    --------
    counterfactual : the same effects on cells.
    scbetavae.pl.guided : plot of the result.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, guided_keys="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=5, enable_progress_bar=False)
    >>> model.describe_guided(n_bootstrap=20)[["covariate", "dimensions", "n_levels"]].values.tolist()
    [['batch', '4', 2]]
    """
    self._check_if_trained(warn=False)
    covariates = guided_covariates(self.registry_)
    if not covariates:
        msg = "No covariate is guided, so there is nothing to describe. Pass guided_keys to setup_anndata."
        raise ValueError(msg)
    adata = cells_of(self, adata, "describe_guided(adata=...)")
    check_adata(adata)
    check_whole_number(n_genes, "n_genes", 1)
    groupby = self.registry_["setup_args"].get("labels_key") if groupby is None else groupby
    check_keys({"groupby": groupby}, adata.obs.columns, "adata.obs")
    symbols = gene_symbols_of(adata, gene_symbols)
    data = self._validate_anndata(adata)
    latent = compute_latent(self, data)
    table = _left_in_free_dimensions(self, adata, latent, covariates, n_bootstrap, seed)
    group = np.full(adata.n_obs, ALL_CELLS, dtype=object)
    if groupby is not None:
        group = class_texts(obs_of(adata)[groupby], "groupby").to_numpy(dtype=object)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(adata.n_obs)[:_MOST_CELLS])
    cells = {"adata": data, "indices": rows} if has_conditions(self) else {}
    genes = [
        effect
        for covariate in covariates
        for effect in _effects(self, latent.means[rows], group[rows], covariate, n_genes, cells)
    ]
    effects = pd.concat(genes, ignore_index=True)
    if gene_symbols is not None:
        effects.insert(list(effects).index("gene") + 1, "symbol", effects["gene"].map(symbols))
    with staged(adata) as copy:
        tables = {"": table, keys.GENES_SUFFIX: effects}
        made = {"groupby": groupby, "n_genes": n_genes, "n_bootstrap": n_bootstrap, "seed": seed}
        store(copy, keys.GUIDED, tables, made, {keys.LATENT: latent.means})
    return table.copy()


def _left_in_free_dimensions(
    self: BetaVAE,
    adata: AnnData,
    latent: Latent,
    covariates: tuple[GuidedCovariate, ...],
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """One row per covariate: accuracy in the free dimensions, of all cells and of those held out of training."""
    free = latent.means[:, : self.module.n_latent]
    obs, names = obs_of(adata), [covariate.name for covariate in covariates]
    columns = pd.DataFrame(
        {c.name: class_texts(obs[c.name], "guided_keys") if c.n_levels else obs[c.name] for c in covariates}
    )
    settings = {"batch": guided_classes(self, obs, names[0]), "conserved": columns}
    settings |= {"n_bootstrap": n_bootstrap, "seed": seed}
    reports = {"": metrics.evaluate_batch_removal(latent.means, free, **settings)}
    held_out = getattr(self, "validation_indices_", None)
    if adata is self.adata and held_out is not None and len(held_out) >= MINIMUM_CELLS:
        test = np.isin(np.arange(adata.n_obs), held_out)
        reports["held_out_"] = metrics.evaluate_batch_removal(latent.means, free, **settings, test=test)
    first = self.module.n_latent
    blocks = self.module.guided.columns
    rows = []
    for covariate in covariates:
        block = blocks[covariate.name]
        dimensions = ", ".join(str(first + d) for d in range(block.start, block.stop))
        row: dict[str, Any] = {"covariate": covariate.name, "dimensions": dimensions, "n_levels": covariate.n_levels}
        for prefix in ("", "held_out_"):
            found: Any = {}
            if prefix in reports:
                report = reports[prefix]
                is_here = (report["role"] == "conserved") & (report["classifier"] == "knn")
                found = report[is_here & (report["covariate"] == covariate.name)].iloc[0]
            row |= {
                f"{prefix}accuracy": found.get("after", np.nan),
                f"{prefix}ci_low": found.get("after_ci_low", np.nan),
                f"{prefix}ci_high": found.get("after_ci_high", np.nan),
            }
        row["n_held_out"] = int(reports["held_out_"]["n_cells"].max()) if "held_out_" in reports else 0
        rows.append(row | {"n_missing": int(obs[covariate.name].isna().sum())})
    return pd.DataFrame(rows)


def _effects(
    self: BetaVAE, means: np.ndarray, group: np.ndarray, covariate: GuidedCovariate, n_genes: int, cells: dict[str, Any]
) -> list[pd.DataFrame]:
    """One table per level but the reference."""
    levels = guided_state(self)[covariate.name] or [covariate.mean - covariate.sd, covariate.mean + covariate.sd]
    decoded, paths = [], []
    for level in levels:
        block = coordinates_of(self, {covariate.name: level}).cpu().numpy()
        decoded.append(self.decode(at_coordinates(self, means, block), **cells).astype(np.float64))
        paths.append(_shared_path(self, np.nan_to_num(block)))
    sizes = pd.Series(group).value_counts()
    groups = [name for name, size in sizes.items() if size >= MEAN_CELLS]
    names = np.asarray(self.get_var_names(), dtype=object)
    reference = decoded[0].mean(axis=0)
    tables = []
    for level, expression, path in zip(levels[1:], decoded[1:], paths[1:], strict=True):
        change = np.log2(expression.mean(axis=0) / reference)
        shift = path - paths[0]
        # Shares sum to 1, so that a shift of all genes changes nothing.
        additive = (shift - np.log(reference @ np.exp(shift))) / np.log(2.0)
        top = np.argsort(-np.abs(change), kind="stable")[:n_genes]
        table = pd.DataFrame(
            {
                "covariate": covariate.name,
                "level": _label(level),
                "reference": _label(levels[0]),
                "gene": names[top],
                "rank": np.arange(1, len(top) + 1),
                "log2_fold_change": change[top],
                "additive": additive[top],
                "departure": np.nan,
                "departure_group": "",
            }
        )
        if len(groups) > 1:
            of_group = np.stack(
                [np.log2(expression[group == g].mean(axis=0) / decoded[0][group == g].mean(axis=0)) for g in groups]
            )
            departure = (of_group - change)[:, top]
            largest = np.abs(departure).argmax(axis=0)
            table["departure"] = departure[largest, np.arange(len(top))]
            table["departure_group"] = np.asarray(groups, dtype=object)[largest]
        tables.append(table)
    return tables


@torch.inference_mode()
def _shared_path(self: BetaVAE, coordinates: np.ndarray) -> np.ndarray:
    """Contribution (n_genes,) of guided coordinates to the logits, without the hidden units."""
    weight = self.module.decoder.px_scale_decoder[0].weight[:, -len(coordinates) :]
    return (weight @ torch.as_tensor(coordinates, dtype=weight.dtype, device=weight.device)).cpu().double().numpy()


def _label(level: Any) -> str:
    """Name of a level, or a number."""
    return level if isinstance(level, str) else f"{level:.3g}"
