"""Which gene sets change along each latent dimension."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from scbetavae import datasets
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata, check_whole_number
from scbetavae._core.genes import are_identifiers, gene_symbols_of
from scbetavae._core.text import counted, listed
from scbetavae.tl._embedding import read
from scbetavae.tl._gene_changes import gene_changes, read_changes

if TYPE_CHECKING:
    from collections.abc import Iterable

_logger = logging.getLogger(__name__)

LEAST_MATCHED = 0.1
"""Share of the genes of all sets, or of the measured genes if these are fewer, that must be in both."""
LEAST_GENES = 5
_NAMED_GENES = 5
GeneSets = Mapping[str, "Iterable[str]"] | pd.DataFrame | str | Path


def enrich_dimensions(
    data: AnnData | pd.DataFrame,
    gene_sets: GeneSets | None = None,
    *,
    obsm_key: str = keys.LATENT,
    loadings_key: str | None = None,
    gene_symbols: str | None = None,
    min_genes: int = LEAST_GENES,
    key_added: str = keys.GENE_SETS,
) -> pd.DataFrame:
    r"""Test which gene sets change along each latent dimension, with decoupler's univariate linear model.

    Genes are ranked by how they change from the low to the high end of a dimension, and the ranks are mapped to a normal
    distribution, :math:`y_g = \Phi^{-1}((r_g - 1/2) / G)`, so that few extreme genes do not decide. For every set of weights
    :math:`w` (1 for members) the score is the t-value of :math:`\beta` in :math:`y_g = \alpha + \beta w_g` over all genes
    :cite:p:`BadiaIMompel2022`. It needs decoupler: ``pip install "scbetavae[enrichment]"``.

    Parameters
    ----------
    data
        Annotated data with a traversal of the embedding or its loadings; or the frame of :meth:`BetaVAE.traverse`.
    gene_sets
        A dict of genes by set, a network as decoupler reads it (DataFrame with ``source``, ``target`` and, if members count
        differently, ``weight``), or the path of a ``.gmt`` file. By default :func:`scbetavae.datasets.marker_gene_sets`.
    obsm_key
        Embedding whose dimensions are tested.
    loadings_key
        Entry of ``.varm`` with its loadings, for an embedding without a traversal, such as ``"PCs"`` for ``"X_pca"``.
    gene_symbols
        Column of ``.var`` with the names that the gene sets use, if ``.var_names`` are others.
    min_genes
        Measured genes that a set needs, at least 2. Smaller sets are skipped and counted in a log message.
    key_added
        Name of the result in ``.uns["betavae"]``.

    Returns
    -------
    DataFrame with one row per dimension and set, sorted by dimension and p-value: ``dimension``, ``gene_set``, ``direction``
    (``"up"`` if the set is high where the dimension is high), ``score`` (t-value), ``p_value``, ``p_adjusted``
    (Benjamini-Hochberg over all dimensions and sets), ``n_genes`` measured, ``genes``, the members that change most in this
    direction. Genes count as independent in these tests; members of a set are usually correlated, so read them as a ranking.

    Raises
    ------
    ImportError
        Without decoupler.
    KeyError
        For an entry or a column that does not exist, and without a traversal or loadings.
    ValueError
        For a file that does not exist or is empty, no set of enough genes, or fewer than a tenth of the genes in both, as with
        identifiers in ``.var_names`` and symbols in the sets.
    TypeError
        For gene sets of another type.

    References
    ----------
    :cite:p:`BadiaIMompel2022,Benjamini1995`

    Examples
    --------
    >>> import numpy as np, scanpy as sc, scbetavae
    >>> adata = scbetavae.datasets.pbmc68k()
    >>> sc.pp.normalize_total(adata, target_sum=1e4)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=3)
    >>> frame = scbetavae.tl.enrich_dimensions(adata, obsm_key="X_pca", loadings_key="PCs")
    >>> frame.loc[frame["dimension"] == 0, "gene_set"].iloc[0]
    'monocytes'
    """
    check_decoupler()
    check_whole_number(min_genes, "min_genes", 2)
    network = read_gene_sets(gene_sets)
    if isinstance(data, AnnData):
        check_adata(data, key_added=key_added)
        symbols = gene_symbols_of(data, gene_symbols)
        embedding = read(data, obsm_key)
        changes = read_changes(data, embedding, loadings_key)
        table = run_enrichment(changes.change, symbols, network, min_genes)
        how = {"obsm_key": obsm_key, "loadings_key": loadings_key, "gene_symbols": gene_symbols, "min_genes": min_genes}
        results.store(data, key_added, {"": table.copy()}, how, {obsm_key: embedding.values})
        return table
    if not isinstance(data, pd.DataFrame) or gene_symbols is not None:
        msg = (
            f"data is a {type(data).__name__}; enrich_dimensions takes an AnnData, or the frame of model.traverse(), for which "
            "there are no gene_symbols."
        )
        raise TypeError(msg)
    return run_enrichment(gene_changes(data).change, None, network, min_genes)


def run_enrichment(
    changes: pd.DataFrame, symbols: pd.Series | None, network: pd.DataFrame, min_genes: int = LEAST_GENES
) -> pd.DataFrame:
    """The table of `enrich_dimensions` for a matrix of changes (n_dims, n_genes)."""
    import decoupler

    changes = changes if symbols is None else _by_symbol(changes, symbols)
    network = measured_sets(network, changes.columns, min_genes)
    ranks = stats.rankdata(changes, axis=1)
    normal = pd.DataFrame(
        stats.norm.ppf((ranks - 0.5) / changes.shape[1]), index=changes.index.astype(str), columns=changes.columns
    )
    found: Any = decoupler.mt.ulm(normal, network[["source", "target", "weight"]], tmin=min_genes)
    score = found[0]  # its p-values are adjusted within each dimension
    table = score.rename_axis(index="dimension", columns="gene_set").stack().rename("score").reset_index()
    table["dimension"] = table["dimension"].astype(np.int64)
    table["p_value"] = 2 * stats.t.sf(table["score"].abs(), changes.shape[1] - 2)
    table["p_adjusted"] = stats.false_discovery_control(table["p_value"])
    table["direction"] = np.where(table["score"] > 0, "up", "down")
    members = {str(name): part for name, part in network.groupby("source")}
    table["n_genes"] = table["gene_set"].map({name: len(part) for name, part in members.items()})
    table["genes"] = [
        _leading_genes(changes.loc[row.dimension], members[row.gene_set], float(row.score))
        for row in table.itertuples()
    ]
    table["gene_set"] = table["gene_set"].astype(str).astype(object)
    table = table.sort_values(["dimension", "p_value"], kind="stable", ignore_index=True)
    return table[["dimension", "gene_set", "direction", "score", "p_value", "p_adjusted", "n_genes", "genes"]]


def read_gene_sets(gene_sets: GeneSets | None) -> pd.DataFrame:
    """Gene sets as a network with ``source``, ``target`` and ``weight``, each pair once."""
    if gene_sets is None:
        network = datasets.marker_gene_sets()
    elif isinstance(gene_sets, pd.DataFrame):
        missing = [name for name in ("source", "target") if name not in gene_sets]
        if missing:
            msg = f"gene_sets has no column {missing[0]!r}. A network has the columns source, target and, optionally, weight."
            raise ValueError(msg)
        network = gene_sets
    elif isinstance(gene_sets, Mapping):
        pairs = [(name, gene) for name, genes in gene_sets.items() for gene in genes]
        network = pd.DataFrame(pairs, columns=["source", "target"])
    elif isinstance(gene_sets, (str, Path)):
        network = _read_gmt(Path(gene_sets))
    else:
        msg = f"gene_sets is a {type(gene_sets).__name__}. Pass a dict of genes by set, a DataFrame, or the path of a .gmt file."
        raise TypeError(msg)
    network = network.assign(source=network["source"].astype(str), target=network["target"].astype(str))
    network = network.drop_duplicates(["source", "target"])
    if network.empty:
        msg = "gene_sets holds no genes. Pass at least one set of genes."
        raise ValueError(msg)
    return network if "weight" in network else network.assign(weight=1.0)


def _read_gmt(path: Path) -> pd.DataFrame:
    """One set per line: name, description and genes, separated by tabs."""
    if not path.is_file():
        msg = f"gene_sets={str(path)!r} is not a file. Pass the path of a .gmt file, such as one of MSigDB."
        raise ValueError(msg)
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(fields) < 3 for fields in lines):
        msg = f"gene_sets={str(path)!r} is not a .gmt file: a line needs a name, a description and genes, separated by tabs."
        raise ValueError(msg)
    pairs = [(fields[0], gene.strip()) for fields in lines for gene in fields[2:] if gene.strip()]
    return pd.DataFrame(pairs, columns=["source", "target"])


def measured_sets(network: pd.DataFrame, genes: pd.Index, min_genes: int) -> pd.DataFrame:
    """Members that are measured, of the sets that have enough of them."""
    wanted = network["target"].unique()
    is_measured = network["target"].isin(genes)
    matched = network.loc[is_measured, "target"].nunique()
    if matched < LEAST_MATCHED * min(len(wanted), len(genes)):
        mixed = are_identifiers(genes) != are_identifiers(wanted)
        reason = (
            "One of them uses identifiers and the other symbols: name the column of .var that matches the gene sets, "
            'gene_symbols="...".'
            if mixed
            else "Check that both use the same species and kind of names."
        )
        msg = (
            f"Only {matched} of the {len(wanted)} genes in gene_sets are measured. The data have {listed(genes[:3])}, the gene "
            f"sets {listed(wanted[:3])}. {reason}"
        )
        raise ValueError(msg)
    network = network[is_measured]
    size = network.groupby("source")["target"].transform("size")
    n_small = int(network.loc[size < min_genes, "source"].nunique())
    if n_small:
        _logger.info(
            "%s fewer than %d measured genes and %s skipped.",
            counted(n_small, "gene set has", "gene sets have"),
            min_genes,
            "is" if n_small == 1 else "are",
        )
    if n_small == network["source"].nunique():
        msg = f"No gene set has {min_genes} measured genes. Pass larger sets, or lower min_genes."
        raise ValueError(msg)
    return network[size >= min_genes]


def _by_symbol(changes: pd.DataFrame, symbols: pd.Series) -> pd.DataFrame:
    """Changes by symbol; of several genes with one symbol, the one that changes most."""
    largest = changes.abs().max(axis=0).sort_values(ascending=False, kind="stable")
    named = pd.Series(largest.index, index=symbols.reindex(largest.index).to_numpy())
    kept = named[~named.index.duplicated()]
    renamed = dict(zip(kept.to_numpy(), kept.index, strict=True))
    chosen = [name for name in changes.columns if name in renamed]
    return changes[chosen].rename(columns=renamed)


def _leading_genes(change: pd.Series, members: pd.DataFrame, score: float) -> str:
    """Members that change most in the direction of the score."""
    signed = change[members["target"]].to_numpy(float) * np.sign(members["weight"].to_numpy(float)) * np.sign(score)
    order = np.argsort(-signed, kind="stable")
    order = order[signed[order] > 0][:_NAMED_GENES]
    return ", ".join(members["target"].to_numpy()[order])


def has_decoupler() -> bool:
    """Whether decoupler is installed."""
    return find_spec("decoupler") is not None


def check_decoupler() -> None:
    if not has_decoupler():
        msg = 'Enrichment needs decoupler, which is not installed. Run: pip install "scbetavae[enrichment]"'
        raise ImportError(msg)
