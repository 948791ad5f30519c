"""Results of a trained model: scores, latent-space operations, curves and UMAP, each made separately."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from scbetavae import pl, tl
from scbetavae._core import keys, palette, results
from scbetavae._core.columns import as_classes, class_name, obs_of
from scbetavae.cli._outputs import Outputs, line
from scbetavae.cli._train_arguments import ACTED, CURVES, SCORED, UMAP, class_columns, scores_are_wanted
from scbetavae.model import BetaVAE

UMAP_ZEROED = f"{keys.LATENT_UMAP}_zeroed"

_HEADLINE = "0 is the null, 1 the ceiling of these covariates; in brackets 95% intervals"
# MIG, SAP and DCI reward one dimension per covariate, LMS one per class: each sees what the others miss.
_METRICS = {"mig": "MIG", "sap": "SAP", "lms": "LMS", "dci_completeness": "DCI"}
_WIDTH = 17

# Results, and files, that are written as a table and as a plot: `pl` names its functions after results.
_PLOTS = (keys.LATENT_SUMMARY, keys.BATCH_DIMENSIONS, keys.BATCH_REMOVAL, keys.TRAVERSAL, keys.CONDITION_PREDICTION)
_TABLES = (*(name for name in _PLOTS if name != keys.TRAVERSAL), keys.DIMENSION_GENES)


def make_results(adata: AnnData, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
    """Make every output after the training."""
    if scores_are_wanted(options):
        print("scores ...", file=sys.stderr, flush=True)
        _score(adata, model, options, outputs)
    elif not options.no_scores:
        line("scores", "none, as no column was named: --covariates cell_type,donor")
    actions = None if options.no_actions else _Actions(model, options, outputs)
    if actions is not None:
        print("summary, batch dimensions, traversal, predictions ...", file=sys.stderr, flush=True)
        actions.act()
    print("neighbors and UMAP ...", file=sys.stderr, flush=True)
    outputs.picture(CURVES, pl.history, adata)
    if outputs.compute("UMAP", [UMAP], lambda: _umap(adata, keys.LATENT, options.seed)) is not None:
        outputs.picture(UMAP, _draw_umap, adata, list(filter(None, (options.labels_key, options.batch_key))))
    if actions is not None:
        actions.write()


def _score(adata: AnnData, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
    """Score the dimensions, and write tables and plots."""

    def score() -> str:
        columns = {"donor_key": options.donor_key, "categorical": class_columns(options)}
        return "\n".join(score_lines(model.score_disentanglement(options.covariates, **columns, seed=options.seed)))

    if outputs.compute("scores", SCORED, score) is not None:
        stored = adata.uns[keys.UNS]
        outputs.table(SCORED[0], stored[keys.DISENTANGLEMENT])
        outputs.picture(SCORED[1], pl.disentanglement, adata)
        outputs.table(SCORED[2], stored[f"{keys.DISENTANGLEMENT}{keys.DIMENSIONS_SUFFIX}"])
        outputs.picture(SCORED[3], pl.dimension_covariate, adata)


def score_lines(scores: pd.DataFrame) -> list[str]:
    """A headline and a table of normalized scores, one line per covariate and one for all, from the frame of scores."""
    by_name = scores[scores["metric"].isin(_METRICS)].set_index(["covariate", "metric"])
    covariates = [*(name for name in dict.fromkeys(scores["covariate"]) if name != "all"), "all"]
    width = max(map(len, covariates)) + 2
    rows = {"": list(_METRICS.values())}
    rows |= {name: [_cell(by_name.loc[(name, metric)]) for metric in _METRICS] for name in covariates}
    texts = ("  " + name.ljust(width) + " ".join(text.ljust(_WIDTH) for text in row) for name, row in rows.items())
    return [_HEADLINE, *(text.rstrip() for text in texts)]


def _cell(row: pd.Series) -> str:
    """Normalized score and its interval on the same scale."""
    if np.isnan(row["normalized"]):
        return "-"
    scaled = (row[["value", "ci_low", "ci_high"]].astype(float) - row["null"]) / (row["ceiling"] - row["null"])
    value, low, high = (round(number, 2) + 0.0 for number in scaled)  # a little below 0 would read as "-0.00"
    return f"{value:.2f}" if np.isnan(low) else f"{value:.2f} [{low:.2f} {high:.2f}]"


class _Actions:
    """Applies operations to one model and writes their results.

    An operation that the data do not allow (one batch, a collapsed model) is a line in the report, and the others go on.
    """

    def __init__(self, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
        self._model, self._options, self._outputs = model, options, outputs
        self._adata = cast("AnnData", model.adata)
        self._predicted: AnnData | None = None

    def act(self) -> None:
        """Apply every operation; results go to ``adata``."""
        self._act("summary", ("latent_summary",), self._summarize)
        if self._options.batch_key is not None:
            self._act("batch", ("batch_dimensions", "batch_removal"), self._remove_batch)
        self._act("traversal", ("dimension_genes", "traversal"), self._traverse)
        if self._options.condition is not None:
            self._act("condition", ("condition_prediction",), self._predict)
            self._act("effect", ("counterfactual",), self._predict_counterfactual)

    def write(self) -> None:
        """Write tables and plots; the plot of batch removal needs the UMAP."""
        outputs, adata = self._outputs, self._adata
        # The file may hold results of other embeddings, under the same names.
        stored = {key: e for key, e in adata.uns[keys.UNS].items() if results.describes(adata, key, keys.LATENT)}
        for name in _TABLES:
            if name in stored:
                outputs.table(f"{name}.csv", stored[name])
        colors = list(dict.fromkeys(filter(None, (self._options.batch_key, self._options.labels_key))))
        for name in _PLOTS:
            if name in stored:
                arguments = [colors] if name == keys.BATCH_REMOVAL else []
                outputs.picture(f"{name}.png", getattr(pl, name), adata, *arguments)
        if self._predicted is not None:
            outputs.table("counterfactual.csv", self._predicted.uns[keys.UNS][keys.COUNTERFACTUAL])
            outputs.picture("counterfactual.png", pl.counterfactual, self._predicted)

    def _act(self, title: str, outputs: tuple[str, ...], action: Callable[[], str]) -> None:
        """Apply one operation, and report it in one line."""
        names = [name for name in ACTED if name.rpartition(".")[0] in outputs]
        self._outputs.compute(title, names, lambda: " ".join(action().split()))

    def _summarize(self) -> str:
        best = self._model.get_latent_summary().sort_values("order").head(3)
        lost = zip(best["dimension"], best["reconstruction_lost"], strict=True)
        parts = ", ".join(f"{dimension} ({value:.1f})" for dimension, value in lost)
        collapse = results.parameters(self._adata, keys.LATENT_SUMMARY).get("collapse", "")
        return f"most important dimensions: {parts}; in brackets, nats lost per cell without it. {collapse}"

    def _remove_batch(self) -> str:
        options, adata = self._options, self._adata
        self._model.zero_batch_dimensions(donor_key=options.donor_key, seed=options.seed)
        cells = AnnData(obs=obs_of(adata)[[]])
        cells.obsm[keys.LATENT_ZEROED] = adata.obsm[keys.LATENT_ZEROED]
        _umap(cells, keys.LATENT_ZEROED, options.seed)
        adata.obsm[UMAP_ZEROED] = cells.obsm[keys.LATENT_UMAP]
        return results.parameters(adata, keys.BATCH_REMOVAL)["summary"]

    def _traverse(self) -> str:
        self._model.traverse(scale="quantile", seed=self._options.seed)
        genes = tl.rank_dimension_genes(self._adata)
        if genes.empty:
            return "no dimension changes a gene within the observed range"
        up = genes[(genes["direction"] == "up") & (genes["rank"] <= 3)]
        parts = [f"{d}: {' '.join(part['gene'].astype(str))}" for d, part in up.groupby("dimension", sort=True)]
        return f"genes that increase along {'; '.join(parts[:5])}" + (" ..." if len(parts) > 5 else "")

    def _predict(self) -> str:
        options, condition = self._options, self._options.condition
        columns = {"donor_key": options.donor_key, "categorical": condition}
        frame = self._model.predict_condition(condition, **columns, seed=options.seed)
        if frame["accuracy"].isna().all():
            return str(frame["flag"].iloc[0])
        single = frame[frame["predictor"] == "dimension"]
        best, everything = single.sort_values("accuracy").iloc[-1], frame[frame["predictor"] == "all"].iloc[0]
        return (
            f"{condition} from dimension {best['dimension']} alone {best['accuracy']:.2f} (p {best['p_adjusted']:.2g}), "
            f"from all {everything['accuracy']:.2f}; 0 is chance, 1 perfect"
        )

    def _predict_counterfactual(self) -> str:
        options, (source, target) = self._options, self._ends()
        groupby = options.labels_key if options.labels_key != options.condition else None
        arguments = {"groupby": groupby, "seed": options.seed}
        self._predicted = predicted = self._model.counterfactual(options.condition, source, target, **arguments)
        errors = _errors(predicted.uns[keys.UNS][keys.COUNTERFACTUAL])
        return f"{options.condition} {source} -> {target}: error {errors}; 1 is no change, 0 perfect"

    def _ends(self) -> tuple[str, str]:
        """Source and target: those that were named, or the two categories of the condition."""
        options = self._options
        if options.source is not None and options.target is not None:
            return options.source, options.target
        categories = sorted(map(class_name, self._adata.obs[options.condition].dropna().unique()))
        if len(categories) != 2:
            hint = " Name two of them: --source A --target B." if categories else ""
            msg = f"{options.condition!r} has {len(categories)} values.{hint}"
            raise ValueError(msg)
        return categories[0], categories[1]


def _errors(frame: pd.DataFrame) -> str:
    """Mean over groups of the relative error over all genes, of the prediction and of the mean shift."""
    whole = frame[(frame["genes"] == "all") & frame["relative_error"].notna()]
    predicted = whole.loc[whole["kind"] == "prediction", "relative_error"]
    shifted = whole.loc[whole["method"] == "mean_shift", "relative_error"]
    if predicted.empty:
        return f"unknown: {'; '.join(frame['flag'].unique())}"
    return f"{predicted.mean():.2f}, of a mean shift of expression {shifted.mean():.2f}"


def _umap(adata: AnnData, obsm_key: str, seed: int) -> str:
    """Neighbors and UMAP of an embedding, an action without a line in the report."""
    import scanpy as sc

    sc.pp.neighbors(adata, use_rep=obsm_key, random_state=seed)
    sc.tl.umap(adata, random_state=seed)
    return ""


def _draw_umap(adata: AnnData, colors: list[str]) -> Figure:
    """Scanpy's plot of the cells, batch and labels as classes; ``adata`` receives no colors."""
    import scanpy as sc
    from matplotlib import pyplot as plt

    obs = {name: as_classes(obs_of(adata)[name], "column").astype("category") for name in colors}
    cells = AnnData(obs=obs_of(adata)[[]].assign(**obs))
    cells.obsm[keys.LATENT_UMAP] = adata.obsm[keys.LATENT_UMAP]
    shades = palette.colors(max((column.nunique() for column in obs.values()), default=1))
    # One panel per row, so that no legend reaches into the next panel.
    figure: Any = sc.pl.umap(cells, color=colors or None, palette=shades, ncols=1, show=False, return_fig=True)
    plt.close(figure)  # it stays out of pyplot's list
    return figure
