"""The tidy frame: every score with its null, ceiling, interval and the reason where it is not defined."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scbetavae.metrics import _resampling
from scbetavae.metrics._active import resolve_active
from scbetavae.metrics._checks import check_codes, check_factors, check_groups, check_positive_integer
from scbetavae.metrics._information import find_confounder
from scbetavae.metrics.disentanglement import _evidence, _oracle, _score_models
from scbetavae.metrics.disentanglement._evidence import CLASS_METRICS, Evidence, Wanted
from scbetavae.metrics.disentanglement._layout import INFORMATION_METRICS, Layout, Views
from scbetavae.metrics.disentanglement._own_scores import own_scores
from scbetavae.metrics.disentanglement._records import score_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike


def score_frame(  # noqa: PLR0913 - nine independent choices, each with a default
    codes: ArrayLike,
    factors: pd.DataFrame,
    *,
    groups: ArrayLike | pd.Series | None = None,
    confounder: pd.Series | str | None = None,
    metrics: str | Iterable[str] | None = None,
    n_permutations: int = 100,
    n_bootstrap: int = 100,
    active: ArrayLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Proxy alignment scores of codes with covariates, each with null, ceiling and confidence interval.

    The scores say how dimensions line up with covariates that somebody recorded; they do not say that a dimension is a
    cause, or that a dimension without partner is noise.

    Parameters
    ----------
    codes
        Codes of shape (n_cells, n_dims).
    factors
        Covariates, one row per cell: categorical, boolean, string or numeric columns; integers are numbers, so convert codes
        of classes. A cell without a label is left out
        for that covariate alone.
    groups
        Donor of every cell. The bootstrap then draws donors, models are tested on held-out donors, and a covariate
        that is constant within donors is permuted by donor.
    confounder
        Confounder: the name of a column of ``factors``, or a column of its own. The information scores weight cells by
        p(a)p(b)/p(a,b); see `mig`. The other scores say in ``flag`` that they do not.
    metrics
        Names of scores (column ``metric``), also of your own (`register_score`), or of the families ``"class_alignment"`` and
        ``"dci"``. ``None`` for the default ones.
    n_permutations
        Permutations behind ``null`` and ``p_value``. DCI refits trees for at most 4 of them.
    n_bootstrap
        Bootstrap replicates behind the interval.
    active
        Boolean mask of the dimensions that take part, by default `active_dimensions`.
    seed
        Seed of all resampling.

    Returns
    -------
    DataFrame, a row per (metric, covariate or ``"all"``, level):

    ``value``
        The score; the mean over covariates in rows ``"all"`` of scores that have one per covariate.
    ``null``, ``p_value``
        Mean under permutation of the covariate, and the share of permutations that score as high. For DCI the
        p-value is that of the held-out accuracy.
    ``ceiling``
        The same score on oracle codes, one per covariate (at class level one per class).
    ``normalized``
        (value - null) / (ceiling - null), NaN where ceiling - null is below 0.05.
    ``ci_low``, ``ci_high``
        95% interval of ``value``: t interval with the bootstrap standard error, cut to the range of the score. For
        disentanglement and completeness a jackknife over folds.
    ``n_cells``, ``n_classes``
        Cells with a label, and their classes (0 for numeric covariates and in rows ``"all"``).
    ``flag``
        Why something is not defined or needs care; empty otherwise.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, or a metric is unknown (the nearest is named).

    References
    ----------
    :cite:p:`Chen2018,Kumar2018,EastwoodWilliams2018,RidgewayMozer2018,Moinfar2024`

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from scbetavae.metrics import score_frame
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 4, 500)
    >>> codes = np.column_stack([label + 0.1 * rng.normal(size=500), rng.normal(size=500)])
    >>> frame = score_frame(codes, pd.DataFrame({"type": label.astype(str)}), metrics="mig")
    >>> frame.loc[frame["covariate"] == "type", "normalized"].round(1).item()
    1.0
    """
    names = score_names(metrics)
    n_permutations = check_positive_integer(n_permutations, "n_permutations", minimum=0)
    n_bootstrap = check_positive_integer(n_bootstrap, "n_bootstrap", minimum=0)
    array = check_codes(codes)
    mask = resolve_active(array, active)
    covariates = check_factors(factors, len(array))
    members = check_groups(groups, len(array))
    confounder = find_confounder(covariates, confounder, len(array))
    rng = np.random.default_rng(seed)
    blocks = _resampling.make_blocks(len(array), members, n_bootstrap, rng)

    # Without any active dimension, two constant ones stand in: they score 0, and the flag says why.
    values = np.ascontiguousarray(array[:, mask].T) if mask.any() else np.zeros((2, len(array)))
    wanted = Wanted("sap" in names, any(name in CLASS_METRICS for name in names))
    binned = _evidence.refined_bins(values, wanted.estimator, refine=wanted.predictability)
    evidences = [_evidence.gather(binned, covariate, confounder, wanted) for covariate in covariates]
    defined = [evidence for evidence in evidences if not evidence.problem]
    oracle = _oracle.oracle_codes(defined, binned, rng)
    scores: dict[tuple[str, str], Views] = {}
    if any(name in INFORMATION_METRICS for name in names):
        for evidence in defined:
            if n_permutations:
                _evidence.add_null(evidence, binned, members, n_permutations, rng, wanted)
            if n_bootstrap:
                _evidence.add_bootstrap(evidence, binned, blocks, wanted)
        _oracle.add_ceilings(defined, oracle, binned, wanted)
        scores |= _information_scores(evidences, names)
    # What cannot be compared is missing for the models, too.
    seen = [e.covariate.without_labels() if e.problem else e.covariate for e in evidences]
    models = _score_models.ModelInputs(array, mask, seen, members, blocks, oracle, defined, n_permutations, seed)
    scores |= _score_models.model_scores(models, names)
    scores |= own_scores(models, names)
    layout = Layout(evidences, blocks, int(mask.sum()), len(array), None if confounder is None else confounder.name)
    return layout.frame(scores, names)


def _information_scores(evidences: list[Evidence], metrics: list[str]) -> dict[tuple[str, str], Views]:
    names = [evidence.covariate.name for evidence in evidences]
    views = {
        view: _evidence.read_scores([getattr(evidence, view) for evidence in evidences], names, metrics)
        for view in ("value", "null", "bootstrap", "ceiling")
    }
    nothing = np.zeros(0)
    return {
        key: Views(
            float(value[0]),
            views["null"].get(key, nothing),
            views["bootstrap"].get(key, nothing),
            float(views["ceiling"].get(key, np.array([np.nan]))[0]),
        )
        for key, value in views["value"].items()
    }
