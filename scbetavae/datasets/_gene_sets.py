"""Small gene sets that name the usual dimensions of blood: cell types, interferon response, cell cycle, stress and quality."""

from collections.abc import Iterable
from importlib.resources import files

import pandas as pd

from scbetavae._core.checks import as_list, check_choice

KINDS = ("cell_type", "program", "quality")


def marker_gene_sets(kinds: str | Iterable[str] | None = None) -> pd.DataFrame:
    """Small sets of human genes that name the usual dimensions of blood, without a download.

    Markers of blood cell types, programs (interferon and inflammatory response, cell cycle) and signs of quality (heat shock,
    ribosomal and mitochondrial genes). They are meant to put a first name to a dimension; for biology take a curated collection,
    such as MSigDB's hallmark sets through ``decoupler.op.hallmark()``.

    Parameters
    ----------
    kinds
        ``"cell_type"``, ``"program"``, ``"quality"``, or several of them; ``None`` for all. Others are a ValueError.

    Returns
    -------
    DataFrame with one row per gene of a set, a network as decoupler reads it: ``source`` (the set), ``target`` (HGNC symbol),
    ``kind``, and ``reference``, the citation key in the documentation.

    References
    ----------
    :cite:p:`Hao2021,Monaco2019,Villani2017,Zheng2017,Kang2018,Tirosh2016,VanDenBrink2017,Liberzon2015,Luecken2019`

    Examples
    --------
    >>> from scbetavae.datasets import marker_gene_sets
    >>> sets = marker_gene_sets("program")
    >>> sets["source"].unique().tolist()[0], "ISG15" in set(sets["target"])
    ('interferon response', True)
    """
    chosen = list(KINDS) if kinds is None else as_list(kinds)
    for kind in chosen:
        check_choice(kind, KINDS, "kinds")
    with files("scbetavae.datasets").joinpath("marker_gene_sets.tsv").open(encoding="utf-8") as lines:
        sets = pd.read_csv(lines, sep="\t", dtype=str)
    network = sets[sets["kind"].isin(chosen)].assign(target=lambda part: part["targets"].str.split()).explode("target")
    return network[["source", "target", "kind", "reference"]].reset_index(drop=True)
