"""What the command does with the trained dimensions: summary, zeroing, traversal, prediction, counterfactual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scbetavae._core import keys as _keys
from scbetavae._core import results as _stored
from scbetavae.cli._arguments import ACTION_OUTPUTS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData

    from scbetavae.cli._extras import Extras
    from scbetavae.model import BetaVAE

ZEROED_UMAP = f"{_keys.LATENT_UMAP}_{_keys.ZEROED}"
_TABLES = {
    "latent_summary.csv": _keys.LATENT_SUMMARY,
    "batch_dimensions.csv": _keys.BATCH_DIMENSIONS,
    "zeroing.csv": _keys.ZEROED,
    "dimension_genes.csv": _keys.DIMENSION_GENES,
    "condition_prediction.csv": _keys.CONDITION_PREDICTION,
}


class Actions:
    """Acts on the latent dimensions of one model, and writes what came of it.

    An action that the data do not allow (a batch key with one batch, a collapsed model) is a line in the report, and the others
    go on.

    Parameters
    ----------
    model
        A trained model with its cells.
    options
        Arguments of the command.
    extras
        Where outputs go.
    """

    def __init__(self, model: BetaVAE, options: Namespace, extras: Extras) -> None:
        self._model, self._options, self._extras = model, options, extras
        self._predicted: AnnData | None = None

    def act(self) -> None:
        """Act on the dimensions; results go to ``adata``."""
        options = self._options
        self._act("summary", ("latent_summary",), self._summarize)
        if options.batch_key is not None:
            self._act("batch", ("batch_dimensions", "zeroing"), self._zero)
        self._act("traversal", ("dimension_genes", "traversal"), self._traverse)
        if options.condition is not None:
            self._act("condition", ("condition_prediction",), self._predict)
            self._act("what if", ("counterfactual",), self._counterfact)

    def write(self) -> None:
        """Write tables and pictures; that of zeroing needs the UMAP."""
        from scbetavae import pl

        extras, adata = self._extras, self._model.adata
        # The file may hold results of other embeddings, under the same names.
        stored = {key: e for key, e in adata.uns[_keys.UNS].items() if _stored.describes(adata, key, _keys.LATENT)}
        for name, key in _TABLES.items():
            if key in stored:
                extras.table(name, stored[key])
        pictures = {
            "latent_summary.png": (_keys.LATENT_SUMMARY, pl.latent_summary),
            "batch_dimensions.png": (_keys.BATCH_DIMENSIONS, pl.batch_dimensions),
            "zeroing.png": (_keys.ZEROED, self._draw_zeroing),
            "traversal.png": (_keys.TRAVERSAL, pl.traversal),
            "condition_prediction.png": (_keys.CONDITION_PREDICTION, pl.condition_prediction),
        }
        for name, (key, draw) in pictures.items():
            if key in stored:
                extras.picture(name, draw, adata)
        if self._predicted is not None:
            extras.table("counterfactual.csv", self._predicted.uns[_keys.UNS][_keys.COUNTERFACTUAL])
            extras.picture("counterfactual.png", pl.counterfactual, self._predicted)

    def _act(self, title: str, outputs: tuple[str, ...], action: Callable[[], str]) -> None:
        names = [name for name in ACTION_OUTPUTS if name.rpartition(".")[0] in outputs]
        self._extras.compute(title, names, lambda: " ".join(action().split()))

    def _summarize(self) -> str:
        frame = self._model.get_latent_summary()
        best = frame.sort_values("order").head(3)
        parts = [f"{row.dimension} ({row.reconstruction_lost:.1f})" for row in best.itertuples()]
        return f"dimensions that matter most: {', '.join(parts)}; in brackets, nats a cell lost without. " + str(
            frame.attrs.get("collapse", "")
        )

    def _zero(self) -> str:
        import scanpy as sc
        from anndata import AnnData

        options = self._options
        self._model.zero_batch_dimensions(donor_key=options.donor_key, seed=options.seed)
        adata = self._model.adata
        shell = AnnData(obs=adata.obs[[]], obsm={_keys.LATENT_ZEROED: adata.obsm[_keys.LATENT_ZEROED]})
        sc.pp.neighbors(shell, use_rep=_keys.LATENT_ZEROED, random_state=options.seed)
        sc.tl.umap(shell, random_state=options.seed)
        adata.obsm[ZEROED_UMAP] = shell.obsm["X_umap"]
        return adata.uns[_keys.UNS][_keys.ZEROED + _keys.PARAMS_SUFFIX]["summary"]

    def _draw_zeroing(self, adata: AnnData) -> object:
        from scbetavae import pl

        colors = dict.fromkeys(key for key in (self._options.batch_key, self._options.labels_key) if key is not None)
        return pl.zeroing(adata, list(colors))

    def _traverse(self) -> str:
        from scbetavae import tl

        self._model.traverse(scale="quantile", seed=self._options.seed)
        genes = tl.rank_dimension_genes(self._model.adata)
        if genes.empty:
            return "no dimension moves a gene within the data's support"
        up = genes[(genes["direction"] == "up") & (genes["rank"] <= 3)]
        parts = [f"{d}: {' '.join(part['gene'].astype(str))}" for d, part in up.groupby("dimension", sort=True)]
        return f"genes that rise along {'; '.join(parts[:5])}" + (" ..." if len(parts) > 5 else "")

    def _predict(self) -> str:
        options = self._options
        frame = self._model.predict_condition(
            options.condition, donor_key=options.donor_key, categorical=options.condition, seed=options.seed
        )
        if frame["accuracy"].isna().all():
            return str(frame["flag"].iloc[0])
        single = frame[frame["predictor"] == "dimension"]
        best, everything = single.loc[single["accuracy"].idxmax()], frame[frame["predictor"] == "all"].iloc[0]
        return (
            f"{options.condition} from dimension {best['dimension']} alone {best['accuracy']:.2f} "
            f"(p {best['p_adjusted']:.2g}), from all {everything['accuracy']:.2f}; 0 is chance, 1 perfect"
        )

    def _counterfact(self) -> str:
        options = self._options
        source, target = self._ends()
        groupby = options.labels_key if options.labels_key != options.condition else None
        self._predicted = self._model.counterfactual(
            options.condition, source, target, groupby=groupby, seed=options.seed
        )
        frame = self._predicted.uns[_keys.UNS][_keys.COUNTERFACTUAL]
        return f"{options.condition} {source} -> {target}: error {_errors(frame)}; 1 is doing nothing, 0 perfect"

    def _ends(self) -> tuple[str, str]:
        """Source and target: the two categories of a covariate that has two, else those that were named."""
        options = self._options
        if options.source is not None and options.target is not None:
            return options.source, options.target
        from scbetavae._core.columns import class_name

        categories = sorted(map(class_name, self._model.adata.obs[options.condition].dropna().unique()))
        if len(categories) != 2:
            msg = (
                f"{options.condition!r} has {len(categories)} values. Name two of them: --source A --target B."
                if categories
                else f"{options.condition!r} has no values."
            )
            raise ValueError(msg)
        return categories[0], categories[1]


def _errors(frame: pd.DataFrame) -> str:
    """Mean over groups of the error ratio over all genes, of the prediction and of the mean shift."""
    whole = frame[(frame["genes"] == "all") & frame["relative_error"].notna()]
    predicted = whole.loc[whole["kind"] == "prediction", "relative_error"]
    shifted = whole.loc[whole["method"] == "mean_shift", "relative_error"]
    if predicted.empty:
        return f"unknown: {'; '.join(frame['flag'].unique())}"
    return f"{predicted.mean():.2f}, of a mean shift of expression {shifted.mean():.2f}"
