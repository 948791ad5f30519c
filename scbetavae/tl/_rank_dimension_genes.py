"""Top genes of each latent dimension and direction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, check_choice, check_key, check_number, check_whole_number
from scbetavae._core.genes import gene_symbols_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_logger = logging.getLogger(__name__)

_COLUMNS = ("dimension", "step", "value", "gene", "log_fold_change", "standard_error", "expression", "in_range")
_MAKE = "model.traverse()"
MIN_EXPRESSION = 0.1


def rank_dimension_genes(
    data: AnnData | pd.DataFrame,
    *,
    n_genes: int | None = 50,
    rank_by: Literal["log_fold_change", "score"] = "log_fold_change",
    min_expression: float = MIN_EXPRESSION,
    in_range_only: bool = True,
    gene_symbols: str | None = None,
    key: str = keys.TRAVERSAL,
    key_added: str = keys.DIMENSION_GENES,
) -> pd.DataFrame:
    r"""Rank the genes of each dimension by how they change from its low end to its high end.

    The change of gene g along dimension d is that between the lowest and the highest step where cells are:

    .. math:: \Delta_{dg} = \mathrm{LFC}_g(d, v_\mathrm{high}) - \mathrm{LFC}_g(d, v_\mathrm{low})

    Direction ``"up"`` holds the genes that rise with the dimension, ``"down"`` those that fall. A gene that responds alike at
    both ends, and differently between, has a change near 0: look at the traversal for such genes.

    Parameters
    ----------
    data
        Annotated data with a traversal under ``.uns["betavae"][key]``, or the frame that :meth:`BetaVAE.traverse` returned.
        A large traversal is stored with its top genes alone: to rank all, pass the frame.
    n_genes
        Genes of each dimension and direction, at most; ``None`` for all.
    rank_by
        The change itself, or its ``score``.
    min_expression
        Leave out genes whose ``expression`` is below this at every step that is compared, in counts of a cell of 10,000: a
        fold change of what is hardly there says little.
    in_range_only
        Whether to leave out steps where no cells are.
    gene_symbols
        Column of ``.var`` with names to show, if ``data`` is an AnnData: they become the column ``symbol``.
    key
        Name under which the traversal was stored.
    key_added
        Name under which the ranking is stored, if ``data`` is an AnnData.

    Returns
    -------
    DataFrame
        Sorted by dimension, direction (``"up"`` first) and rank: ``dimension``, ``direction``, ``rank`` from 1, ``gene``;
        ``log_fold_change``, the signed change above in log2 units; ``standard_error``, the sum of the errors of both ends,
        which bounds that of their difference for any correlation; ``score``, the change divided by it, a measure of
        how alike cells respond and no test; ``expression``, the higher of the two ends; ``value_low`` and ``value_high``, the
        ends.

    Raises
    ------
    TypeError
        If ``data`` is neither AnnData nor DataFrame.
    KeyError
        If there is no traversal, or it lacks a column.
    ValueError
        For numbers that do not fit, a ranking by ``score`` without standard errors, if no dimension has two steps to
        compare, or if the stored traversal is of an earlier model.

    See Also
    --------
    scbetavae.pl.traversal : genes x steps.

    Examples
    --------
    >>> import pandas as pd
    >>> import scbetavae
    >>> frame = pd.DataFrame({"dimension": 0, "step": [0, 0, 1, 1], "value": [-1.0, -1.0, 1.0, 1.0]})
    >>> frame["gene"], frame["log_fold_change"] = ["IFI6", "CD14", "IFI6", "CD14"], [-1.0, 0.5, 2.0, -0.5]
    >>> frame = frame.assign(standard_error=0.1, expression=3.0, in_range=True)
    >>> ranked = scbetavae.tl.rank_dimension_genes(frame)
    >>> ranked[["direction", "gene", "log_fold_change"]].to_numpy().tolist()
    [['up', 'IFI6', 3.0], ['down', 'CD14', -1.0]]

    A matrix of dimensions x genes, as decoupler reads it, and a list a direction, as gseapy does:

    >>> changes = scbetavae.tl.rank_dimension_genes(frame, n_genes=None)
    >>> changes.pivot(index="dimension", columns="gene", values="log_fold_change").shape
    (1, 2)
    >>> ranked.groupby(["dimension", "direction"])["gene"].agg(list).to_dict()
    {(0, 'down'): ['CD14'], (0, 'up'): ['IFI6']}
    """
    frame = _read(data, key, key_added)
    symbols = None
    if gene_symbols is not None:
        if not isinstance(data, AnnData):
            msg = "gene_symbols names a column of adata.var, but data is a DataFrame. Pass the AnnData."
            raise TypeError(msg)
        symbols = gene_symbols_of(data, gene_symbols)
    _check_settings(n_genes, rank_by, min_expression)
    if rank_by == "score" and not frame["standard_error"].notna().any():
        msg = 'rank_by="score" needs standard errors, and a traversal from one point has none. Rank by log_fold_change.'
        raise ValueError(msg)
    ranked, skipped = [], []
    for dimension, part in _by_dimension(frame):
        changes = _changes(part, in_range_only=in_range_only)
        if changes is None:
            skipped.append(dimension)
            continue
        changes = changes[changes["expression"] >= min_expression]
        ranked.append(_rank(changes, n_genes, rank_by).assign(dimension=dimension))
    if not ranked:
        msg = (
            "No dimension has two steps to compare where cells are. Traverse within the data, "
            'model.traverse(scale="quantile"), or with in_range_only=False take all steps.'
        )
        raise ValueError(msg)
    if skipped:
        _logger.warning(
            "Dimensions %s have fewer than two steps where cells are, and are left out. Traverse within the data: "
            'model.traverse(scale="quantile").',
            skipped,
        )
    table = pd.concat(ranked, ignore_index=True)
    table = table[["dimension", *table.columns.drop("dimension")]].astype({"dimension": np.int64, "rank": np.int64})
    if symbols is not None:
        table.insert(list(table).index("gene") + 1, "symbol", table["gene"].map(symbols))
    if isinstance(data, AnnData):
        how = {
            "key": key,
            "rank_by": rank_by,
            "min_expression": float(min_expression),
            "in_range_only": in_range_only,
        }
        fingerprint = results.parameters(data, key).get(keys.FINGERPRINT, "")
        results.store(data, key_added, {"": table.copy()}, how, fingerprint)
    return table


def keep_top_genes(frame: pd.DataFrame, n_genes: int) -> pd.DataFrame:
    """Rows of a traversal, sorted by dimension, that belong to the most rising and falling genes of each dimension."""
    kept = []
    for _, part in _by_dimension(frame):
        changes = _changes(part, in_range_only=True)
        if changes is None:
            changes = _changes(part, in_range_only=False)
        if changes is None:  # one step alone
            continue
        top = _rank(changes[changes["expression"] >= MIN_EXPRESSION], n_genes, "log_fold_change")["gene"]
        kept.append(part[part["gene"].isin(top)])
    table = pd.concat(kept, ignore_index=True)
    table["gene"] = table["gene"].cat.remove_unused_categories()
    return table


def _read(data: AnnData | pd.DataFrame, key: str, key_added: str) -> pd.DataFrame:
    if isinstance(data, AnnData):
        check_adata(data, key_added=key_added)
        stored = data.uns.get(keys.UNS, {})
        if not stored:
            msg = f'adata.uns["betavae"] holds nothing. Run {_MAKE} first.'
            raise KeyError(msg)
        check_key(key, [name for name, entry in stored.items() if isinstance(entry, pd.DataFrame)], "key", "uns")
        frame = results.read(data, key, _MAKE)
    elif isinstance(data, pd.DataFrame):
        frame = data
    else:
        msg = f"data is a {type(data).__name__}; rank_dimension_genes takes an AnnData or what {_MAKE} returned."
        raise TypeError(msg)
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        msg = f"The table has no column {missing[0]!r}, so it is no traversal. Run {_MAKE}."
        raise KeyError(msg)
    return frame


def _check_settings(n_genes: int | None, rank_by: str, min_expression: float) -> None:
    if n_genes is not None:
        check_whole_number(n_genes, "n_genes", 1)
    check_choice(rank_by, ("log_fold_change", "score"), "rank_by")
    check_number(min_expression, "min_expression", 0)


def _by_dimension(frame: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Parts of the frame, without a copy of what is sorted: a traversal may have millions of rows."""
    dimension = frame["dimension"].to_numpy()
    if not (np.diff(dimension) >= 0).all():
        frame = frame.sort_values("dimension", kind="stable")
        dimension = frame["dimension"].to_numpy()
    names, starts = np.unique(dimension, return_index=True)
    for name, start, stop in zip(names.tolist(), starts, [*starts[1:], len(frame)], strict=True):
        yield name, frame.iloc[start:stop]


def _changes(part: pd.DataFrame, *, in_range_only: bool) -> pd.DataFrame | None:
    """Change of each gene between the ends of one dimension; ``None`` where there are no two ends."""
    steps = part.loc[part["in_range"]] if in_range_only else part
    if steps["step"].nunique() < 2:
        return None
    low, high = (
        steps.loc[steps["step"] == end].set_index("gene") for end in (steps["step"].min(), steps["step"].max())
    )
    high = high.loc[low.index]
    change = high["log_fold_change"].to_numpy(np.float64) - low["log_fold_change"].to_numpy(np.float64)
    error = high["standard_error"].to_numpy(np.float64) + low["standard_error"].to_numpy(np.float64)
    # No spread at all, and no change: no score.
    score = np.divide(change, error, out=np.full_like(change, np.nan), where=error > 0)
    return pd.DataFrame(
        {
            "gene": low.index.astype(str).to_numpy(object),
            "log_fold_change": change,
            "standard_error": error,
            "score": score,
            "expression": np.maximum(low["expression"].to_numpy(np.float64), high["expression"].to_numpy(np.float64)),
            "value_low": float(low["value"].iloc[0]),
            "value_high": float(high["value"].iloc[0]),
        }
    )


def _rank(changes: pd.DataFrame, n_genes: int | None, rank_by: str) -> pd.DataFrame:
    """Top genes of both directions; a gene that does not change belongs to none."""
    parts = []
    for direction, sign in (("up", 1.0), ("down", -1.0)):
        part = changes[sign * changes["log_fold_change"] > 0]
        order = np.argsort(-sign * part[rank_by].to_numpy(), kind="stable")
        part = part.iloc[order[:n_genes]]
        place = {"direction": direction, "rank": np.arange(1, len(part) + 1)}
        parts.append(part.assign(**place))
    table = pd.concat(parts, ignore_index=True)
    return table[["direction", "rank", *changes.columns]]
