"""Which dimensions of an embedding differ between two levels of a covariate, with donors as replicates."""

# ruff: noqa: PT028 - a public function whose name begins as those of pytest do

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from scbetavae import metrics
from scbetavae._core import keys, results
from scbetavae._core.checks import check_adata
from scbetavae._core.constants import MEAN_CELLS
from scbetavae._core.text import counted
from scbetavae.tl._batch_inputs import check_left
from scbetavae.tl._donors import Design, read_design, too_few
from scbetavae.tl._embedding import Embedding, read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData

_logger = logging.getLogger(__name__)

_NUMBERS = ("difference", "effect_size", "ci_low", "ci_high", "statistic", "df", "p_value")

_INACTIVE, _GUIDED = "not active: not tested", "guided: not tested"


def test_dimensions(
    adata: AnnData,
    covariate: str,
    *,
    donor_key: str,
    groupby: str | None = None,
    obsm_key: str = keys.LATENT,
    levels: Iterable[Any] | None = None,
    key_added: str = keys.DIMENSION_TESTS,
) -> pd.DataFrame:
    r"""Test which dimensions differ between two levels of a covariate, within each cell type, with donors as replicates.

    In every group of cells, each donor is represented by the mean of its cells (pseudobulk). If donors have cells of both
    levels, the test is a paired t-test on the differences within donors, otherwise Welch's t-test on the means.
    Cells of one donor resemble each other, so a test over cells finds differences where only the donors
    differ :cite:p:`Squair2021`.

    Parameters
    ----------
    adata
        Annotated data with the embedding; not a view.
    covariate
        Column of ``.obs`` with the levels, such as the condition. Cells without a label are left out.
    donor_key
        Column of ``.obs`` with the donor (or other independent unit) of every cell.
    groupby
        Column of ``.obs`` with the groups that are tested separately, such as cell types; ``None`` for all cells together.
        Cells without a group are left out.
    obsm_key
        Entry of ``.obsm``, of shape (n_cells, n_dims). Only active dimensions are tested.
    levels
        Reference and target, the two levels that are compared. By default both levels of the covariate, in the order of its
        categories or else of the alphabet.
    key_added
        Name in ``.uns["betavae"]`` of the result.

    Returns
    -------
    DataFrame, one row per group and dimension:

    ``group``, ``dimension``, ``name``, ``active``
        The group (``"all cells"`` without ``groupby``), and number and name of the dimension.
    ``covariate``, ``reference``, ``target``, ``paired``
        What was compared, and whether donors are pairs.
    ``difference``
        Mean over donors of the target minus that of the reference, in units of the embedding.
    ``effect_size``, ``ci_low``, ``ci_high``
        Hedges' g: the difference in standard deviations between donors, the root of the average variance of both levels,
        corrected for bias :cite:p:`Delacre2021,Cousineau2020`; and its 95% interval :cite:p:`Algina2003`. Paired or not, the
        units are the same; pairs only make the interval shorter.
    ``statistic``, ``df``, ``p_value``
        Of the t-test, two-sided.
    ``p_adjusted``
        Corrected over all groups and dimensions (Benjamini-Hochberg :cite:p:`Benjamini1995`).
    ``n_donors_first``, ``n_donors_second``, ``n_cells``
        Donors of reference and target with at least 10 cells, and their cells.
    ``flag``
        Why there are no numbers: fewer than three donors, no variation, or a dimension that is not active. Empty otherwise.

    Donors enter as pairs if that leaves as many per level as donors with a single level do. Donors that do not fit are left out:
    those with a single level of a paired design, those with both of an unpaired one. The log says how many.

    It is written to ``adata.uns["betavae"][key_added]``, and what was compared to ``f"{key_added}_params"``, a flat dict:
    the arguments, ``reference``, ``target``, ``test``, ``correction``, ``minimum_cells``, ``n_missing`` (cells left out
    because a label is missing) and ``n_donors_left_out``.

    Raises
    ------
    KeyError
        If an entry of ``.obsm`` or a column of ``.obs`` is not there, with the nearest that is.
    ValueError
        For a view, a cell without donor, one column in two roles, other than two levels, fewer than three donors of either
        level or in every group, an embedding with values that are not finite, or one without active dimensions.
    TypeError
        If ``adata`` is no AnnData, or the embedding holds no numbers.

    See Also
    --------
    predict_condition : whether dimensions predict the covariate of single cells.
    scbetavae.pl.dimension_tests : plot of the result.

    References
    ----------
    :cite:p:`Squair2021,Delacre2021,Cousineau2020,Algina2003,Benjamini1995`

    Examples
    --------
    >>> import numpy as np
    >>> import scbetavae
    >>> adata = scbetavae.datasets.simulate_counts(400, 50, seed=0)
    >>> rng = np.random.default_rng(0)
    >>> adata.obs["donor"] = rng.choice(["d1", "d2", "d3", "d4", "d5"], size=400)
    >>> z = rng.normal(size=(400, 3))
    >>> z[:, 1] += adata.obs["condition"] == "treated"
    >>> adata.obsm["X_example"] = z
    >>> frame = scbetavae.tl.test_dimensions(adata, "condition", donor_key="donor", obsm_key="X_example")
    >>> frame.loc[frame["p_adjusted"] < 0.05, ["dimension", "target", "paired"]].values.tolist()
    [[1, 'treated', True]]
    """
    check_adata(adata, key_added=key_added)
    embedding = read(adata, obsm_key)
    check_left(embedding.free, obsm_key)
    design = read_design(adata, covariate, donor_key, groupby, levels)
    _log(design, covariate)
    frame = _frame(design, embedding, covariate)
    parameters = {
        "covariate": covariate,
        "reference": design.levels[0],
        "target": design.levels[1],
        "donor_key": donor_key,
        "groupby": groupby,
        "obsm_key": obsm_key,
        "test": "paired t-test" if design.paired else "Welch's t-test",
        "correction": "Benjamini-Hochberg over groups and dimensions",
        "minimum_cells": MEAN_CELLS,
        "n_missing": design.n_missing,
        "n_donors_left_out": design.n_donors_left_out(),
    }
    results.store(adata, key_added, {"": frame}, parameters, {obsm_key: embedding.values})
    return frame.copy()


def _log(design: Design, covariate: str) -> None:
    """Say what is left out."""
    if design.n_missing:
        _logger.warning("%s without %r or without a group left out.", counted(design.n_missing, "cell"), covariate)
    n_donors = design.n_donors_left_out()
    if n_donors:
        which = "have cells of one level only" if design.paired else "have cells of both levels"
        test = "paired" if design.paired else "unpaired"
        _logger.warning("%s left out of the %s test, because they %s.", counted(n_donors, "donor"), test, which)
    skipped = [name for number, name in enumerate(design.groups) if not design.is_tested(number)]
    if skipped:
        _logger.warning("Not tested, for too few donors: %s.", ", ".join(skipped))


def _frame(design: Design, embedding: Embedding, covariate: str) -> pd.DataFrame:
    """One row per group and dimension."""
    n_dims = len(embedding.active)
    means = design.means(embedding.values)
    parts = []
    for number, name in enumerate(design.groups):
        first, second = design.donors(number)
        counts = design.counts[number]
        part = pd.DataFrame({"group": name, "dimension": np.arange(n_dims), "name": embedding.names})
        part = part.assign(active=embedding.free, covariate=covariate)
        part = part.assign(reference=design.levels[0], target=design.levels[1], paired=design.paired)
        part[[*_NUMBERS, "p_adjusted"]] = np.nan
        if design.is_tested(number):
            tested = metrics.mean_difference(means[number, first, 0], means[number, second, 1], paired=design.paired)
            tested.loc[~embedding.free] = np.nan
            part[list(_NUMBERS)] = tested[list(_NUMBERS)]
            flag = np.where(tested["p_value"].isna(), "no variation between donors", "")
        else:
            flag = np.full(n_dims, too_few(design, number))
        part = part.assign(n_donors_first=len(first), n_donors_second=len(second))
        part["n_cells"] = int(counts[first, 0].sum() + counts[second, 1].sum())
        part["flag"] = np.where(embedding.free, flag, np.where(embedding.active, _GUIDED, _INACTIVE)).astype(object)
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    known = frame["p_value"].notna()
    if known.any():
        frame.loc[known, "p_adjusted"] = stats.false_discovery_control(frame.loc[known, "p_value"])
    return frame


test_dimensions.__test__ = False  # pyright: ignore[reportFunctionMemberAccess] - its name is that of a test to pytest
