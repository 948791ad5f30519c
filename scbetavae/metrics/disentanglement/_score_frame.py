"""The tidy frame: every score with its null, ceiling, interval and the reason where it is not defined."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number
from scbetavae.metrics._binning import REFINEMENT
from scbetavae.metrics._checks import check_inputs
from scbetavae.metrics._information import CodeBins, find_confounder
from scbetavae.metrics._resampling import make_blocks
from scbetavae.metrics.disentanglement import _evidence, _oracle
from scbetavae.metrics.disentanglement._class_alignment import CLASS_SCORES
from scbetavae.metrics.disentanglement._evidence import Evidence, Wanted
from scbetavae.metrics.disentanglement._layout import INFORMATION_SCORES, Layout, Views
from scbetavae.metrics.disentanglement._records import score_names
from scbetavae.metrics.disentanglement._score_models import ModelInputs, model_scores


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
    """Proxy alignment scores of dimensions with covariates, each with null, ceiling and confidence interval.

    The scores say how dimensions line up with covariates that somebody recorded; they do not say that a dimension is a
    cause, or that a dimension without partner is noise.

    Parameters
    ----------
    codes, factors, active
        As in :func:`mig`, and so are errors. Integers are numbers, so convert codes of classes.
    groups
        Donor of every cell. The bootstrap then draws donors, models are evaluated on held-out donors, and a covariate that is
        constant within donors is permuted by donor.
    confounder
        As in :func:`mig`, for the information scores. The other scores say in ``flag`` that they do not use it.
    metrics
        Names of scores, also of your own (`register_score`), or of the families ``"class_alignment"`` and ``"dci"``. ``None`` for
        the default ones. For an unknown name the error names the nearest.
    n_permutations
        Permutations behind ``null`` and ``p_value``. DCI refits trees for at most 4 of them.
    n_bootstrap
        Bootstrap replicates behind the interval.
    seed
        Seed of all resampling.

    Returns
    -------
    DataFrame, one row per (``metric``, ``covariate`` or ``"all"``, ``level``):

    ``value``
        The score; the mean over covariates in rows ``"all"`` of scores that have one per covariate.
    ``null``, ``p_value``
        Mean under permutation of the covariate, and the share of permutations that score as high. For DCI the
        p-value is that of the held-out accuracy.
    ``ceiling``
        The same score on oracle dimensions, one per covariate (at class level one per class).
    ``normalized``
        (value - null) / (ceiling - null), NaN where ceiling - null is below 0.05.
    ``ci_low``, ``ci_high``
        95% interval of ``value``: t interval with the bootstrap standard error, cut to the range of the score. For
        disentanglement and completeness a jackknife over folds.
    ``n_cells``, ``n_classes``, ``flag``
        Cells with a label, and their classes (0 for numeric covariates and in rows ``"all"``); why something is not defined or
        needs care, otherwise empty.

    Examples
    --------
    >>> from scbetavae.metrics import score_frame
    >>> rng = np.random.default_rng(0)
    >>> label = rng.integers(0, 4, 500)
    >>> codes = np.column_stack([label + 0.1 * rng.normal(size=500), rng.normal(size=500)])
    >>> frame = score_frame(codes, pd.DataFrame({"type": label.astype(str)}), metrics="mig")
    >>> frame.loc[frame["covariate"] == "type", "normalized"].round(1).item()
    1.0
    """
    names = score_names(metrics)
    check_whole_number(n_permutations, "n_permutations")
    check_whole_number(n_bootstrap, "n_bootstrap")
    array, mask, covariates, members = check_inputs(codes, factors, active, groups)
    against = find_confounder(covariates, confounder, len(array))
    rng = np.random.default_rng(seed)
    blocks = make_blocks(len(array), members, n_bootstrap, rng)

    # Without any active dimension, two constant ones stand in: they score 0, and the flag says why.
    values = np.ascontiguousarray(array[:, mask].T) if mask.any() else np.zeros((2, len(array)))
    wanted = Wanted("sap" in names, any(name in CLASS_SCORES for name in names))
    binned = CodeBins(values, refinement=REFINEMENT if wanted.predictability else 1)
    evidences = [_evidence.gather(binned, covariate, against, wanted) for covariate in covariates]
    defined = [evidence for evidence in evidences if not evidence.problem]
    oracle = _oracle.oracle_codes(defined, len(array), rng)
    scores: dict[tuple[str, str], Views] = {}
    if any(name in INFORMATION_SCORES for name in names):
        for evidence in defined:
            if n_permutations:
                _evidence.add_null(evidence, members, n_permutations, rng)
            if n_bootstrap:
                _evidence.add_bootstrap(evidence, blocks)
        _oracle.add_ceilings(defined, oracle)
        scores |= _information_scores(evidences, names)
    # What cannot be compared is missing for the models, too.
    seen = [e.covariate.where(np.zeros(len(array), dtype=bool)) if e.problem else e.covariate for e in evidences]
    of_oracle = [evidence.covariate.name for evidence in defined]
    models = ModelInputs(array[:, mask], seen, members, blocks, oracle, of_oracle, n_permutations, seed)
    scores |= model_scores(models, names)
    layout = Layout(evidences, blocks.n_blocks, int(mask.sum()), len(array), None if against is None else against.name)
    return layout.frame(scores, names)


def _information_scores(evidences: list[Evidence], metrics: list[str]) -> dict[tuple[str, str], Views]:
    """Views of every score, put together from the scores of every view."""
    value, null, bootstrap, ceiling = (
        _evidence.read_scores(evidences, view, metrics) for view in ("value", "null", "bootstrap", "ceiling")
    )
    nothing, unknown = np.zeros(0), np.array([np.nan])
    return {
        key: Views(
            float(of_key[0]), null.get(key, nothing), bootstrap.get(key, nothing), float(ceiling.get(key, unknown)[0])
        )
        for key, of_key in value.items()
    }
