"""The result of looking for batch dimensions, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scbetavae.metrics._batch_dimensions import REPORTED
from scbetavae.tl import _removal_status
from scbetavae.tl._zeroing_summary import number, tell_noise

if TYPE_CHECKING:
    import pandas as pd

    from scbetavae.metrics._batch_dimensions import Choice
    from scbetavae.metrics._conditional_information import Strata

_ALTERNATIVE = "BetaVAE(adata, condition_on_batch=True) keeps batch out of the latent space instead."


@dataclass(frozen=True)
class Finding:
    """What was found, and on which grounds."""

    status: str
    rule: str
    choice: Choice
    covariates: pd.DataFrame
    """Accuracies on the cells that decided nothing, batch in the first row."""
    strata: Strata
    n_cells: int

    @property
    def batch(self) -> pd.Series:
        return self.covariates.iloc[0]

    @property
    def conserved(self) -> pd.DataFrame:
        return self.covariates.iloc[1:]


def describe(finding: Finding, clusters: pd.Series | None, small: str) -> str:
    """Summary in a few sentences; ``small`` says which batches and classes have too few cells."""
    if finding.status == "not possible":
        return f"No dimension is chosen, as that is {small}."
    if finding.status == "refused":
        sentences = [
            f"Refused: {finding.strata.problem}, so batch and what is conserved cannot be told apart.",
            "Take cells in which both vary, or conserve a coarser covariate.",
        ]
    elif finding.status == "none":
        sentences = [f"No dimension is chosen: {_reason(finding)}."]
        if finding.choice.reason != "mixed":
            sentences += [
                f"k-NN accuracy for batch stays at {number(finding.batch['accuracy_before'])}{_expected(finding)}.",
                _ALTERNATIVE,
            ]
    else:
        sentences = _describe_found(finding, clusters)
    left_out = [name for name in finding.conserved["covariate"] if name not in finding.strata.crossed]
    if left_out and finding.status != "refused":
        sentences.append(
            f"Cells are too few to hold {_names(left_out)} constant, too: "
            f"batch was weighed within {_names(finding.strata.crossed) or 'no stratum'} alone."
        )
    if small:
        sentences.append(f"{small[:1].upper()}{small[1:]}.")
    if clusters is not None:
        sentences.append(
            f"Nothing was conserved by name: kept are {clusters.nunique()} clusters of the embedding "
            f"({clusters.attrs['method']}), and what they do not show is not stepwise."
        )
    return " ".join(sentences)


def _describe_found(finding: Finding, clusters: pd.Series | None) -> list[str]:
    batch, conserved = finding.batch, finding.conserved
    n = len(finding.choice.dimensions)
    names = conserved["covariate"].map(repr) if clusters is None else ["the clustering"]
    kept = [
        f"{name} keeps {_share(share)}" if i == 0 else f"{name} {_share(share)}"
        for i, (name, share) in enumerate(zip(names, conserved["kept"], strict=True))
    ]
    whose = "its" if len(kept) == 1 else "their"
    effect = (
        f"Without dimension{'s' if n > 1 else ''} {_listed(sorted(finding.choice.dimensions))}, k-NN accuracy for "
        f"{batch['covariate']!r} goes from {number(batch['accuracy_before'])} to {number(batch['accuracy_after'])}"
        f"{_expected(finding)}, and {_listed(kept)} of {whose} k-NN accuracy, on held-out cells."
    )
    sentences = [effect]
    if finding.strata.problem:
        sentences.append(f"Careful: {finding.strata.problem}.")
    rows = _as_report(finding.covariates)
    remains, lost = (
        _removal_status.batch_remains(rows.iloc[:1]),
        _removal_status.biology_lost(rows.iloc[1:]),
    )
    suffering = conserved.loc[lost.yes, "covariate"]
    if len(suffering):
        sentences.append(f"Careful: zeroing costs {_names(suffering)} more than 5%. {_ALTERNATIVE}")
    sentences += tell_noise(rows.iloc[1:], lost)
    # Neighbors are less sharp than the rule behind what is expected: where accuracies were kept, it is that.
    if _removal_status.is_below_expected(rows.iloc[:1]) and (len(suffering) or conserved["kept"].isna().all()):
        sentences.append("Careful: this is less than the conserved covariates imply, a sign that they went with it.")
    elif remains.yes.any():
        sentences.append(f"Much batch is left, in dimensions that also hold what is conserved. {_ALTERNATIVE}")
    elif remains.too_wide.any():
        sentences.append("Cells are too few to tell whether batch is left.")
    elif remains.noise.any():
        sentences.append("What is left of batch beyond what is expected is within noise.")
    return sentences


def _as_report(covariates: pd.DataFrame) -> pd.DataFrame:
    """The report with the column names of the report of zeroing."""
    names = {column: name for name, column in REPORTED.items()} | {"expected_accuracy": "expected"}
    return covariates.rename(columns=names).assign(classifier="knn")


def _reason(finding: Finding) -> str:
    name = repr(finding.batch["covariate"])
    reason, steps = finding.choice.reason, finding.choice.steps
    if reason == "insignificant":
        return f"no active dimension holds significantly more of {name} than the conserved covariates explain"
    if reason == "mixed":
        return f"k-NN accuracy for batch is {number(finding.batch['accuracy_before'])} already{_expected(finding)}"
    if reason == "guard":
        last = steps[(steps["n_zeroed"] == 1) & (steps["role"] == "conserved")].sort_values("kept").iloc[0]
        return (
            f"zeroing dimension {last['dimension']}, the first in rank, would leave {last['covariate']!r} "
            f"{_share(last['kept'])} of its k-NN accuracy"
        )
    if reason == "all":
        return f"every active dimension holds {name}, and nothing would be left of the cells"
    if finding.rule == "dominant":
        return f"no dimension alone has a higher k-NN accuracy for {name} than for what is conserved"
    return "zeroing the dimensions that can be given up does not lower k-NN accuracy for batch"


def _expected(finding: Finding) -> str:
    expected = finding.batch["expected_accuracy"]
    return "" if np.isnan(expected) else f" ({number(max(expected, 0.0))} is expected from composition)"


def _share(value: float) -> str:
    return "none (it had none)" if np.isnan(value) else f"{value:.0%}"


def _names(names: object) -> str:
    return _listed([repr(name) for name in names])


def _listed(items: list) -> str:
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""
