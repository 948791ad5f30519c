"""Latent-space operations of the command: summary, batch removal, traversal, prediction, counterfactual."""

from argparse import Namespace
from collections.abc import Callable
from typing import cast

import pandas as pd
from anndata import AnnData

from scbetavae import pl, tl
from scbetavae._core import keys, results
from scbetavae._core.columns import class_name, obs_of
from scbetavae.cli._outputs import Outputs
from scbetavae.cli._train_arguments import ACTED
from scbetavae.model import BetaVAE

# Results, and files, that are written as a table and as a plot: `pl` names its functions after results.
_PLOTS = (keys.LATENT_SUMMARY, keys.BATCH_DIMENSIONS, keys.BATCH_REMOVAL, keys.TRAVERSAL, keys.CONDITION_PREDICTION)
_TABLES = (*(name for name in _PLOTS if name != keys.TRAVERSAL), keys.DIMENSION_GENES)


class Actions:
    """Applies operations to one model and writes their results.

    An operation that the data do not allow (one batch, a collapsed model) is a line in the report, and the others go on.
    ``embed(adata, obsm_key, seed)`` computes a UMAP.
    """

    def __init__(
        self, model: BetaVAE, options: Namespace, outputs: Outputs, embed: Callable[[AnnData, str, int], object]
    ) -> None:
        self._model, self._options, self._outputs, self._embed = model, options, outputs, embed
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
        self._embed(cells, keys.LATENT_ZEROED, options.seed)
        adata.obsm[f"{keys.LATENT_UMAP}_zeroed"] = cells.obsm[keys.LATENT_UMAP]
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
