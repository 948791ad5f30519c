"""Guided dimensions of a model: its checks, the coordinates of cells, and the levels of cells without a label."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi import settings

from scbetavae import metrics
from scbetavae._core.checks import as_list, check_choice, check_keys
from scbetavae._core.columns import class_name, class_texts, obs_of
from scbetavae._core.constants import GUIDED_KEY
from scbetavae._core.text import listed
from scbetavae.module import NETWORK_OPTIONS, check_guided_arguments

from ._cells import resolve_rows
from ._decoding import evaluating
from ._guided_field import codes_of, guided_covariates, is_numeric, numbers_of
from ._latent import random_state_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData

    from ._betavae import BetaVAE

_NOTICE, _STRONG, _REFUSED = 0.3, 0.5, 0.8
"""Accuracy for a guided covariate that others explain, from which on there is a warning, a strong one, and no training."""

_GUIDED_BINS = 4  # of a numeric covariate, to predict it as a class


def network_arguments(guided_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Those of ``guided_kwargs`` that the network takes."""
    return {name: value for name, value in (guided_kwargs or {}).items() if name in NETWORK_OPTIONS}


def check_guided(
    registry: Mapping[str, Any] | None,
    guided_kwargs: Mapping[str, Any] | None,
    condition_on_batch: bool,
    distribution: str,
) -> None:
    """Refuse what does not go with guided covariates."""
    names = [covariate.name for covariate in guided_covariates(registry)]
    check_guided_arguments(guided_kwargs, is_guided=bool(names))
    setup = registry["setup_args"] if names and registry is not None else {}
    if condition_on_batch and setup.get("batch_key") in names:
        msg = (
            f"{setup['batch_key']!r} is both guided and what the decoder is conditioned on. Leave condition_on_batch=True "
            "out, or guided_keys."
        )
        raise ValueError(msg)
    conditioned = [*(setup.get("categorical_covariate_keys") or ()), *(setup.get("continuous_covariate_keys") or ())]
    both = [name for name in names if name in conditioned]
    if both:
        msg = f"{listed(both)} is guided and a covariate that the decoder is conditioned on. Name it in one of the two."
        raise ValueError(msg)
    if names and distribution == "ln":
        msg = 'Guided dimensions need latent_distribution="normal".'
        raise ValueError(msg)


def check_confounding(self: BetaVAE) -> pd.DataFrame | None:
    """How far other covariates explain each guided one: a warning, or a ValueError where effects cannot be told apart.

    Returns one row per guided covariate and other covariate: ``covariate``, ``other`` (also the labels and conserved columns
    together), ``accuracy`` (:func:`scbetavae.metrics.expected_accuracy`), ``empty`` (combinations without cells).
    """
    covariates = guided_covariates(self.registry_)
    adata = self.adata
    if not covariates or adata is None:
        return None
    options = self._guided_options
    obs = obs_of(adata)
    setup = self.registry_["setup_args"]
    conserve = list(dict.fromkeys([*as_list(setup.get("labels_key")), *as_list(options.get("conserve"))]))
    check_keys({f"guided_kwargs['conserve'][{i}]": key for i, key in enumerate(conserve)}, obs.columns, "adata.obs")
    names = [covariate.name for covariate in covariates]
    conserve = [name for name in conserve if name not in names]
    continuous = setup.get("continuous_guided_keys") or ()
    columns = {name: _classes(obs[name], name in continuous) for name in names}
    others = {
        name: obs[name] if is_numeric(obs[name], False) else class_texts(obs[name], "conserve") for name in conserve
    }
    rows = []
    for name in names:
        single = {other: pd.DataFrame({other: c}) for other, c in (columns | others).items() if other != name}
        together = {", ".join(conserve): pd.DataFrame(others)} if len(conserve) > 1 else {}
        for other, frame in (single | together).items():
            accuracy = metrics.expected_accuracy(columns[name], frame)
            row = {"covariate": name, "other": other, "accuracy": float(np.nan_to_num(accuracy))}
            rows.append(row | {"empty": _empty(columns[name], frame)})
    table = pd.DataFrame(rows, columns=["covariate", "other", "accuracy", "empty"])
    _judge(table, force=bool(options.get("force")))
    return table


def guided_classes(self: BetaVAE, obs: pd.DataFrame, name: str) -> pd.Series:
    """A guided covariate as classes: the levels, or quarters of a number."""
    return _classes(obs[name], name in (self.registry_["setup_args"].get("continuous_guided_keys") or ()))


def _classes(column: pd.Series, is_named: bool) -> pd.Series:
    """As `guided_classes`, of a column that is named as continuous or not."""
    if not is_numeric(column, is_named):
        return class_texts(column, "guided_keys")
    quarters = np.ceil(column.astype(float).rank(pct=True).to_numpy() * _GUIDED_BINS)
    texts = [f"quarter {q:.0f}" if np.isfinite(q) else np.nan for q in quarters]
    return pd.Series(texts, index=column.index, name=column.name, dtype=object)


def _empty(levels: pd.Series, frame: pd.DataFrame) -> str:
    """Combinations of levels without cells, as text."""
    if frame.shape[1] > 1 or is_numeric(frame.iloc[:, 0], False):
        return ""
    counts = pd.crosstab(levels.to_numpy(), frame.iloc[:, 0].to_numpy())
    rows, columns = (counts.to_numpy() == 0).nonzero()
    found = [f"{counts.index[i]} in {counts.columns[j]}" for i, j in zip(rows, columns, strict=True)]
    return "; ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def _judge(table: pd.DataFrame, *, force: bool) -> None:
    """Refuse confounded covariates, or warn of them."""
    worst_first = table[table["accuracy"] >= _NOTICE].sort_values("accuracy", ascending=False, kind="stable")
    for worst in worst_first.drop_duplicates("covariate").to_dict("records"):
        name = worst["covariate"]
        found = (
            f"The guided covariate {name!r} is confounded with {worst['other']!r}, which predicts it with an accuracy of "
            f"{worst['accuracy']:.2f} (0 is chance, 1 is perfect)."
        )
        if worst["accuracy"] >= _REFUSED and not force:
            msg = (
                f"{found} Their effects cannot be told apart: guiding would remove both from the free dimensions. Guide only one "
                "of them, balance the design, or pass guided_kwargs={'force': True}."
            )
            raise ValueError(msg)
        strong = worst["accuracy"] >= _STRONG
        advice = (
            "Much of what they share leaves the free dimensions. Do not interpret either effect without other data."
            if strong
            else "Part of what they share leaves the free dimensions. Compare conserved covariates before and after."
        )
        warnings.warn(f"{found} {advice}", UserWarning, stacklevel=settings.warnings_stacklevel)


def guided_block(
    self: BetaVAE, adata: AnnData | None, indices: Any = None, batch_size: int | None = None, loader: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of cells in the guided dimensions and their variances, two arrays of shape (n_cells, n_guided)."""
    guided = self.module.guided
    if loader is None and adata is not None:
        rows: Any = resolve_rows(adata, indices)
        manager: Any = self.get_anndata_manager(adata, required=True)
        values = torch.as_tensor(np.asarray(manager.get_from_registry(GUIDED_KEY))[rows, 1:], dtype=torch.float32)
        if guided.mode == "label" and not values.isnan().any() and self.module.minified_data_type is None:
            with torch.inference_mode():
                known = guided.coordinates(values.to(self.device)).cpu().numpy()
            return known, np.zeros_like(known)
        loader = self._make_data_loader(adata, rows, batch_size) if len(rows) else ()
    blocks = _for_minibatches(self, loader, self.module.guided_coordinates)
    means = [block.mean.cpu().numpy() for block in blocks]
    variances = [
        m * 0 if block.variance is None else block.variance.cpu().numpy()
        for m, block in zip(means, blocks, strict=True)
    ]
    empty = [np.empty((0, guided.n_dimensions), dtype=np.float32)]
    return np.concatenate(means or empty), np.concatenate(variances or empty)


def predict_guided(
    self: BetaVAE,
    adata: AnnData | None = None,
    key: str | None = None,
    *,
    indices: Any = None,
    batch_size: int | None = None,
) -> pd.DataFrame:
    r"""Probability of each level of a guided covariate, from the counts of a cell alone.

    .. math:: q(u \mid x) \propto p(u)\, \mathrm{NB}\big(x \mid f(\mu, m(u))\big)

    with the shares p(u) of the training cells and the posterior means of the free dimensions. Levels that the cells have are not
    read; those of other guided covariates are.

    Parameters
    ----------
    adata
        Cells, those of the model unless given. A level that is not known is missing, ``np.nan``.
    key
        Guided covariate; not needed if there is one.
    indices
        Cells as in :meth:`get_latent_representation`.
    batch_size
        Cells in a minibatch.

    Returns
    -------
    DataFrame with one row per cell and one column per level, probabilities that sum to 1. Of a numeric covariate, the columns are
    the means of twelve bins.

    Raises
    ------
    ValueError
        If no covariate is guided, or several are and ``key`` names none, or the cells are minified.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, guided_keys="batch")
    >>> model = scbetavae.model.BetaVAE(adata, n_latent=4).train(max_epochs=5, enable_progress_bar=False)
    >>> model.predict_guided().columns.tolist()
    ['batch_0', 'batch_1']
    """
    self._check_if_trained(warn=False)
    covariates = guided_covariates(self.registry_)
    names = [covariate.name for covariate in covariates]
    if not names or (key is None and len(names) > 1):
        known = f"This model is guided by {listed(names, empty='no covariate')}."
        msg = f"{known} {'Name one: key=...' if names else 'Pass guided_keys to setup_anndata'}."
        raise ValueError(msg)
    if key is not None:
        check_choice(key, names, "key")
    k = 0 if key is None else names.index(key)
    adata = self._validate_anndata(adata)
    if self.module.minified_data_type is not None:
        msg = "The cells are minified, so their counts, from which levels are inferred, are missing. Pass adata= with counts."
        raise ValueError(msg)
    rows: Any = resolve_rows(adata, indices)

    def read(tensors: dict[str, torch.Tensor], inferred: dict[str, Any]) -> np.ndarray:
        coordinates = self.module.guided_coordinates(tensors, inferred).mean
        return self.module.level_probabilities(tensors, inferred, coordinates, k).cpu().numpy()

    found = _for_minibatches(self, self._make_data_loader(adata, rows, batch_size) if len(rows) else (), read)
    levels = guided_state(self)[names[k]]
    if not levels:
        guided = self.module.guided
        levels = [f"{center:.3g}" for center in guided.numbers_at(k, guided.anchors(k)[:, 0]).tolist()]
    probabilities = np.concatenate(found) if found else np.empty((0, len(levels)))
    return pd.DataFrame(probabilities, index=adata.obs_names[rows], columns=levels)


def _for_minibatches(
    self: BetaVAE, loader: Any, read: Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]
) -> list[Any]:
    """Results of a function of the tensors and the posterior of each minibatch. Moves no global random state."""
    found = []
    with random_state_kept(self.device), evaluating(self):
        for batch in loader:
            tensors = {name: value.to(self.device) for name, value in batch.items()}
            found.append(read(tensors, self.module.inference(**self.module._get_inference_input(tensors))))
    return found


def guided_state(self: BetaVAE) -> dict[str, list[str]]:
    """Levels of each guided covariate, by name; none of a number."""
    state = self.registry_["field_registries"].get(GUIDED_KEY, {}).get("state_registry", {"keys": [], "levels": []})
    return dict(zip(state["keys"], state["levels"], strict=True))


def coordinates_of(self: BetaVAE, levels: Mapping[str, Any]) -> torch.Tensor:
    """Coordinates (n_guided,) of levels or numbers by covariate; NaN in the dimensions of others."""
    known, values = guided_state(self), {}
    for name, level in levels.items():
        check_choice(name, list(known), "the guided covariate")
        column = pd.Series([level], name=name)
        if known[name]:
            check_choice(class_name(level), known[name], f"the level of {name!r}")
            values[name] = codes_of(column, known[name])[0]
        else:
            values[name] = numbers_of(column.astype(float))[0]
    row = torch.tensor([[values.get(name, np.nan) for name in known]], dtype=torch.float32, device=self.device)
    return self.module.guided.coordinates(row)[0]


def at_coordinates(self: BetaVAE, z: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Cells (n_cells, n_dims) with other coordinates (n_guided,) in the guided dimensions; NaN leaves one as it is."""
    after, first = z.copy(), self.module.n_latent
    after[:, first:] = np.where(np.isnan(coordinates), z[:, first:], coordinates)
    return after


def reference_levels(self: BetaVAE, reference: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each combination of the levels to decode at, after all checks."""
    known = guided_state(self)
    if not known:
        msg = "reference= names levels of guided covariates, but none is guided. Pass guided_keys to setup_anndata."
        raise ValueError(msg)
    choices = []
    for name, wanted in reference.items():
        check_choice(name, list(known), "the guided covariate in reference")
        if wanted is None and not known[name]:
            msg = (
                f"{name!r} is a number, which has no levels to average over. Name a value: reference={{{name!r}: ...}}."
            )
            raise ValueError(msg)
        levels = known[name] if wanted is None else list(wanted) if isinstance(wanted, list | tuple | set) else [wanted]
        choices.append(levels)
    combinations = [dict(zip(reference, levels, strict=True)) for levels in itertools.product(*choices)]
    for combination in combinations:
        coordinates_of(self, combination)
    return combinations
