"""Results of a trained model: scores, latent-space operations, curves and the picture of the cells, each made separately."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import pandas as pd

from scbetavae import pl, report, tl
from scbetavae._core import keys, results
from scbetavae._core.columns import class_name
from scbetavae.cli._layout import choose_layout
from scbetavae.cli._outputs import REPORT, Outputs
from scbetavae.cli._summary import describe_dimensions, describe_removal, describe_stability
from scbetavae.cli._train_arguments import (
    ACTED,
    CURVES,
    LAYOUT,
    SCORED,
    class_columns,
    figure,
    scores_are_wanted,
    table,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from scbetavae.cli._progress import Progress
    from scbetavae.model import BetaVAE

# Results, and files, that are written as a table and as a plot: `pl` names its functions after results.
_PLOTS = (
    keys.LATENT_SUMMARY,
    keys.BATCH_DIMENSIONS,
    keys.BATCH_REMOVAL,
    keys.TRAVERSAL,
    keys.CONDITION_PREDICTION,
    keys.DIMENSIONS,
)
_TABLES = (*(name for name in _PLOTS if name != keys.TRAVERSAL), keys.DIMENSION_GENES, keys.GENE_SETS)
_KEPT_GENES = 50  # of each dimension and direction, in the file: those of the table of genes


def make_results(adata: AnnData, model: BetaVAE, options: Namespace, outputs: Outputs, progress: Progress) -> None:
    """Make every output after the training."""
    actions = None if options.no_actions else _Actions(model, options, outputs)
    progress.count(_n_stages(options))
    if scores_are_wanted(options):
        progress.stage("scores")
        _score(adata, model, options, outputs)
    if actions is not None:
        actions.act(progress.stage)
    layout = choose_layout(options.layout, adata.n_obs, options.seed)
    coordinates = {}
    if layout is not None:
        progress.stage("picture of the cells")
    if layout is not None and outputs.compute("layout", [LAYOUT], lambda: layout.add(adata)) is not None:
        zeroed = actions is not None and actions.batch_was_removed
        if zeroed and outputs.compute("layout", [], lambda: layout.add_zeroed(adata)) is not None:
            coordinates = {"basis": layout.key, "zeroed_basis": layout.zeroed_key}
    progress.stage("tables and plots")
    outputs.picture(CURVES, pl.history, adata)
    if layout is not None and layout.key in adata.obsm and LAYOUT not in outputs.not_made:
        outputs.picture(LAYOUT, layout.draw, adata, list(filter(None, (options.labels_key, options.batch_key))))
    if actions is not None:
        actions.write(coordinates)
        outputs.write(REPORT, lambda path: report.write_report(adata, path))


def _n_stages(options: Namespace) -> int:
    """Stages of the progress line: scores, operations, picture, and what is written."""
    acted = 0 if options.no_actions else 2 + (options.batch_key is not None) + (options.condition is not None)
    return scores_are_wanted(options) + acted + (options.layout != "none") + 1


def keep_top_genes(adata: AnnData) -> None:
    """Leave the top genes of the traversal, by far the largest result: the plot and the table need no others."""
    stored = adata.uns[keys.UNS]
    if keys.TRAVERSAL in stored and results.describes(adata, keys.TRAVERSAL, keys.LATENT):
        described = f"{keys.TRAVERSAL}{keys.PARAMS_SUFFIX}"
        kept = tl.keep_top_genes(stored[keys.TRAVERSAL], _KEPT_GENES)
        said = stored[described] | {"stored": f"top {_KEPT_GENES} genes of each dimension and direction"}
        adata.uns[keys.UNS] = stored | {keys.TRAVERSAL: kept, described: said}


def _score(adata: AnnData, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
    """Score the dimensions, and write tables and plots."""

    def score() -> str:
        columns = {"donor_key": options.donor_key, "categorical": class_columns(options)}
        model.score_disentanglement(options.covariates, **columns, seed=options.seed)
        return ""

    if outputs.compute("scores", SCORED, score) is not None:
        stored = adata.uns[keys.UNS]
        outputs.table(SCORED[0], stored[keys.DISENTANGLEMENT])
        outputs.picture(SCORED[1], pl.disentanglement, adata)
        outputs.table(SCORED[2], stored[f"{keys.DISENTANGLEMENT}{keys.DIMENSIONS_SUFFIX}"])
        outputs.picture(SCORED[3], pl.dimension_covariate, adata)


class _Actions:
    """Applies operations to one model and writes their results.

    An operation that the data do not allow (one batch, a collapsed model) is a line in the report, and the others go on.
    """

    def __init__(self, model: BetaVAE, options: Namespace, outputs: Outputs) -> None:
        self._model, self._options, self._outputs = model, options, outputs
        self._adata = cast("AnnData", model.adata)
        self._predicted: AnnData | None = None
        self.batch_was_removed = False

    def act(self, show: Callable[[str], object]) -> None:
        """Apply every operation; results go to ``adata``."""
        show("stability and importance")
        self._act("stability", ("latent_summary",), self._summarize)
        show("cards")
        self._act("encodes", ("dimensions", "gene_sets", "dimension_genes", "traversal"), self._describe)
        if self._options.batch_key is not None:
            show("batch removal")
            self._act("batch", ("batch_dimensions", "batch_removal"), self._remove_batch)
        if self._options.condition is not None:
            show("condition")
            self._act("condition", ("condition_prediction",), self._predict)
            self._act("effect", ("counterfactual",), self._predict_counterfactual)

    def write(self, coordinates: dict[str, str]) -> None:
        """Write tables and plots; ``coordinates`` of the cells before and after batch removal, if there are any."""
        outputs, adata = self._outputs, self._adata
        # The file may hold results of other embeddings, under the same names.
        stored = {key: e for key, e in adata.uns[keys.UNS].items() if results.describes(adata, key, keys.LATENT)}
        for name in _TABLES:
            if name in stored:
                outputs.table(table(name), stored[name])
        colors = list(dict.fromkeys(filter(None, (self._options.batch_key, self._options.labels_key))))
        for name in _PLOTS:
            if name not in stored:
                continue
            removal = name == keys.BATCH_REMOVAL and coordinates
            outputs.picture(
                figure(name), getattr(pl, name), adata, **({"color": colors} | coordinates if removal else {})
            )
        if self._predicted is not None:
            outputs.table(table("counterfactual"), self._predicted.uns[keys.UNS][keys.COUNTERFACTUAL])
            outputs.picture(figure("counterfactual"), pl.counterfactual, self._predicted)

    def _act(self, title: str, outputs: tuple[str, ...], action: Callable[[], str]) -> None:
        """Apply one operation, and report it in one line."""
        names = [name for name in ACTED if name.rpartition("/")[2].rpartition(".")[0] in outputs]
        self._outputs.compute(title, names, lambda: " ".join(action().split()))

    def _summarize(self) -> str:
        return describe_stability(self._model.get_latent_summary())

    def _remove_batch(self) -> str:
        options = self._options
        self._model.zero_batch_dimensions(donor_key=options.donor_key, seed=options.seed)
        self.batch_was_removed = True
        return describe_removal(self._adata)

    def _describe(self) -> str:
        known = self._options.covariates or None
        cards = self._model.describe_dimensions(known, gene_symbols=self._options.gene_symbols)
        if cards.empty:
            return "nothing: no dimension is active"
        return describe_dimensions(cards)

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
        settings = {"groupby": groupby, "seed": options.seed}
        self._predicted = predicted = self._model.counterfactual(options.condition, source, target, **settings)
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
