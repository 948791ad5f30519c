"""Scores as a few lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scbetavae._core import keys as _keys
from scbetavae.cli._arguments import (
    DIMENSIONS,
    DIMENSIONS_PICTURE,
    SCORE_OUTPUTS,
    SCORES,
    SCORES_PICTURE,
    class_columns,
)

if TYPE_CHECKING:
    from argparse import Namespace

    import pandas as pd

    from scbetavae.cli._extras import Extras
    from scbetavae.model import BetaVAE

_HEADLINE = "0 as by chance, 1 as good as these covariates allow; in brackets 95%"
# MIG, SAP and DCI ask for one dimension per covariate, LMS for one per class: each sees what the others miss.
_METRICS = {"mig": "MIG", "sap": "SAP", "lms": "LMS", "dci_completeness": "DCI"}
_WIDTH = 17


def make_scores(model: BetaVAE, options: Namespace, extras: Extras) -> None:
    """Score the dimensions, and write tables and pictures of it."""
    from scbetavae import pl

    def score() -> str:
        scores = model.score_disentanglement(
            options.covariates, donor_key=options.donor_key, categorical=class_columns(options), seed=options.seed
        )
        return "\n".join(score_lines(scores))

    if extras.compute("scores", SCORE_OUTPUTS, score) is not None:
        stored = model.adata.uns[_keys.UNS]
        extras.table(SCORES, stored[_keys.DISENTANGLEMENT])
        extras.table(DIMENSIONS, stored[f"{_keys.DISENTANGLEMENT}{_keys.DIMENSIONS_SUFFIX}"])
        extras.picture(SCORES_PICTURE, pl.scores, model.adata)
        extras.picture(DIMENSIONS_PICTURE, pl.dimension_covariate, model.adata)


def score_lines(scores: pd.DataFrame) -> list[str]:
    """A headline, and a table of adjusted scores with a line a covariate.

    Parameters
    ----------
    scores
        What :func:`scbetavae.tl.score_disentanglement` returns.

    Returns
    -------
    Lines; the table has the columns MIG, SAP, LMS and DCI completeness, and a last line for all covariates.
    """
    by_name = scores[scores["metric"].isin(_METRICS)].set_index(["covariate", "metric"])
    covariates = [name for name in dict.fromkeys(scores["covariate"]) if name != "all"]
    width = max(len(name) for name in [*covariates, "all"]) + 2
    lines = [_HEADLINE, (" " * (width + 2) + " ".join(title.ljust(_WIDTH) for title in _METRICS.values())).rstrip()]
    for name in [*covariates, "all"]:
        texts = [_cell(by_name.loc[(name, metric)]) for metric in _METRICS]
        lines.append(("  " + name.ljust(width) + " ".join(text.ljust(_WIDTH) for text in texts)).rstrip())
    return lines


def _cell(row: pd.Series) -> str:
    """Adjusted score and the ends of its interval, moved to the same scale."""
    if np.isnan(row["normalized"]):
        return "-"
    value, low, high = (
        (row[name] - row["null"]) / (row["ceiling"] - row["null"]) for name in ("value", "ci_low", "ci_high")
    )
    # Values a little below chance would read as "-0.00".
    value, low, high = (round(number, 2) + 0.0 for number in (value, low, high))
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f} {high:.2f}]"
