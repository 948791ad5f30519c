"""Difference between the means of two groups of donors, one test per dimension, with a standardized effect size."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special, stats

CONFIDENCE = 0.95
_ROUNDING = 1e-9  # of the largest value: a standard error below this is none
_LARGEST = (
    300.0  # statistics beyond have intervals in proportion, where the inversion of the distribution takes forever
)


def mean_difference(first: np.ndarray, second: np.ndarray, *, paired: bool) -> pd.DataFrame:
    r"""Test whether two means differ: paired t-test on the differences of the rows, or Welch's t-test.

    The effect size is Hedges' g with the average variance of both groups as the standardizer, so that it is in units of the
    standard deviation between donors, paired or not:

    .. math::

        g = J(\nu)\, \frac{\bar y - \bar x}{\sqrt{(s_x^2 + s_y^2)/2}}, \quad
        J(\nu) = \frac{\Gamma(\nu/2)}{\sqrt{\nu/2}\; \Gamma((\nu - 1)/2)}, \quad
        \nu = \frac{(s_x^2 + s_y^2)^2}{s_x^4/(n_x - 1) + s_y^4/(n_y - 1) + 2 s_{xy}^2/(n - 1)},

    where the covariance :math:`s_{xy}` is that of pairs, and 0 without them. This is :math:`g_s^*` of :cite:t:`Delacre2021`
    without pairs and :math:`g_{av}` with them; :math:`\nu` is that of :cite:t:`Delacre2021` and :cite:t:`Cousineau2020`.
    The interval is that of the noncentrality of the test's t distribution :cite:p:`Algina2003`: it contains 0 if and only if
    the p-value is at least 0.05.

    Parameters
    ----------
    first, second
        Donors x dimensions, at least two donors each; row i of both is the same donor if paired.
    paired
        Whether rows are pairs.

    Returns
    -------
    DataFrame, one row per dimension: ``difference`` (second minus first), ``effect_size``, ``ci_low``, ``ci_high``,
    ``statistic``, ``df``, ``p_value``; all but the difference are NaN where the differences, or both groups, do not vary.
    """
    n_first, n_second = len(first), len(second)
    difference = second.mean(axis=0) - first.mean(axis=0)
    var_first, var_second = first.var(axis=0, ddof=1), second.var(axis=0, ddof=1)
    of_first, of_second = var_first / n_first, var_second / n_second
    covariance = np.zeros_like(difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        if paired:
            covariance = ((first - first.mean(axis=0)) * (second - second.mean(axis=0))).sum(axis=0) / (n_first - 1)
            error = (second - first).std(axis=0, ddof=1) / np.sqrt(n_first)
            df = np.full_like(difference, n_first - 1)
        else:
            error = np.sqrt(of_first + of_second)
            df = error**4 / (of_first**2 / (n_first - 1) + of_second**2 / (n_second - 1))
        largest = np.maximum(np.abs(first).max(axis=0), np.abs(second).max(axis=0))
        error = np.where(error > _ROUNDING * largest, error, np.nan)
        statistic = difference / error
        spread = np.sqrt((var_first + var_second) / 2)
        squares = var_first**2 / (n_first - 1) + var_second**2 / (n_second - 1) + 2 * covariance**2 / (n_first - 1)
        effect_size = hedges_correction(4 * spread**4 / squares) * statistic * error / spread
    tail = (1 - CONFIDENCE) / 2
    # The noncentrality is the difference in standard errors, which the spread between donors then replaces.
    within = np.clip(statistic, -_LARGEST, _LARGEST)
    scale = np.abs(statistic).clip(_LARGEST) / _LARGEST * error / spread
    low, high = (special.nctdtrinc(df, p, within) * scale for p in (1 - tail, tail))
    columns = {"difference": difference, "effect_size": effect_size, "ci_low": low, "ci_high": high}
    columns |= {"statistic": statistic, "df": np.where(np.isnan(error), np.nan, df)}
    return pd.DataFrame(columns | {"p_value": 2 * stats.t.sf(np.abs(statistic), df)})


def hedges_correction(df: np.ndarray) -> np.ndarray:
    r""":math:`\Gamma(\nu/2) / (\sqrt{\nu/2}\, \Gamma((\nu - 1)/2))`: a standardized difference times this has no bias."""
    return np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2)
