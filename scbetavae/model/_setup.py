"""Register AnnData fields, and refuse arguments of the model that are known to be wrong before anything is built."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data._utils import _get_adata_minify_type
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    NumericalJointObsField,
    NumericalObsField,
    ObsmField,
)
from scvi.model import SCVI

from scbetavae._core.checks import as_list, check_adata, check_arguments, check_choice, check_keys
from scbetavae.module import ENCODER_INPUT_KEY

from . import _checks, _genes
from ._fingerprint import remember_data
from ._guided_field import GuidedField, check_guided_columns
from ._registered_cells import COUNT_LIKELIHOODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._betavae import BetaVAE


def setup_anndata(  # noqa: PLR0913 - the arguments of scvi-tools
    cls: type[BetaVAE],
    adata: AnnData,
    layer: str | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: list[str] | None = None,
    continuous_covariate_keys: list[str] | None = None,
    encoder_obsm_key: str | None = None,
    guided_keys: str | Sequence[str] | None = None,
    continuous_guided_keys: str | Sequence[str] | None = None,
    **kwargs: Any,
) -> None:
    """Register AnnData fields. Reads the counts once and changes none of them.

    Parameters
    ----------
    adata
        Annotated data of cells x genes; not a view.
    layer
        Layer that holds the raw counts; ``None`` for ``.X``.
    batch_key
        Column of ``.obs`` with the batch of every cell.
    labels_key
        Column of ``.obs`` with a label of every cell, for example its type. Training does not use it, unless
        ``dispersion="gene-label"``.
    size_factor_key
        Column of ``.obs`` with positive size factors, in place of the library size.
    categorical_covariate_keys, continuous_covariate_keys
        Columns of ``.obs`` on which the decoder is conditioned, as categories and as numbers.
    encoder_obsm_key
        Entry of ``.obsm``, for example ``"X_pca"``, that the encoder reads in place of the counts. The decoder still explains the
        counts. New data need the same entry, made in the same way, with the same columns.
    guided_keys
        Columns of ``.obs`` that get latent dimensions of their own, for example the batch or the condition: categories of at
        least 20 cells each, or numbers. Whole numbers are codes of categories. Missing values are inferred from the counts.
    continuous_guided_keys
        Those of ``guided_keys`` whose whole numbers are amounts, such as an age.
    **kwargs
        Arguments that scvi-tools passes when it transfers a setup to other data.

    Raises
    ------
    KeyError
        For a key that does not exist, with the nearest that does.
    ValueError
        For a guided covariate with one level or levels of few cells, a view, duplicate gene names, missing labels, values that
        are negative or not finite, or cells without counts.
    TypeError
        If ``adata`` is not an AnnData or a numeric covariate does not hold numbers.

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
    """
    guided_keys, continuous_guided_keys = as_list(guided_keys) or None, as_list(continuous_guided_keys) or None
    setup_method_args = cls._get_setup_method_args(**locals())
    for name in ("encoder_obsm_key", "guided_keys", "continuous_guided_keys"):
        if (
            setup_method_args["setup_args"][name] is None
        ):  # SCVI and SCANVI, which may take over the set-up, do not know it
            del setup_method_args["setup_args"][name]
    minify_type = _get_adata_minify_type(adata) if isinstance(adata, AnnData) else None
    obs_keys = {"batch_key": batch_key, "labels_key": labels_key}
    obs_keys |= {f"categorical_covariate_keys[{i}]": k for i, k in enumerate(categorical_covariate_keys or ())}
    numeric_keys = {"size_factor_key": size_factor_key}
    numeric_keys |= {f"continuous_covariate_keys[{i}]": k for i, k in enumerate(continuous_covariate_keys or ())}
    check_adata(adata, instead="Wrap a matrix of counts: anndata.AnnData(matrix).")
    _genes.check_unique_genes(adata)
    if "source_registry" not in kwargs:  # for a transfer, scvi-tools knows which columns may be missing
        check_keys(obs_keys | numeric_keys, adata.obs.columns, "adata.obs")
        check_guided_columns(adata, guided_keys or (), continuous_guided_keys or (), batch_key)
    check_keys({"layer": layer}, adata.layers.keys(), "adata.layers")
    _checks.check_no_missing(adata, obs_keys, numeric=False)
    _checks.check_no_missing(adata, numeric_keys, numeric=True)
    _checks.check_positive(adata, "size_factor_key", size_factor_key)
    _checks.check_encoder_input(adata, encoder_obsm_key)
    if minify_type is None:
        _checks.check_matrix(adata, layer)

    fields: list[Any] = [
        # The check of scvi-tools only warns, about values that ours either refuses or has reason to allow.
        LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
        CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
        CategoricalObsField(REGISTRY_KEYS.LABELS_KEY, labels_key),
        NumericalObsField(REGISTRY_KEYS.SIZE_FACTOR_KEY, size_factor_key, required=False),
        CategoricalJointObsField(REGISTRY_KEYS.CAT_COVS_KEY, categorical_covariate_keys),
        NumericalJointObsField(REGISTRY_KEYS.CONT_COVS_KEY, continuous_covariate_keys),
    ]
    if encoder_obsm_key is not None:
        fields.append(ObsmField(ENCODER_INPUT_KEY, encoder_obsm_key))
    if guided_keys is not None:
        fields.append(GuidedField(guided_keys, continuous_guided_keys or ()))
    if minify_type is not None:
        fields += cls._get_fields_for_adata_minification(minify_type)
    manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
    manager.register_fields(adata, **kwargs)
    remember_data(manager)
    cls.register_manager(manager)


def check_model_arguments(
    model_cls: type, gene_likelihood: str, condition_on_batch: bool, kwargs: dict[str, Any]
) -> None:
    """Refuse arguments that the network does not take, before it is built."""
    check_choice(gene_likelihood, (*COUNT_LIKELIHOODS, "normal"), "gene_likelihood")
    allowed = set(signature(SCVI._module_cls).parameters) | set(signature(model_cls).parameters) - {"kwargs"}
    check_arguments(kwargs, sorted(allowed), "BetaVAE")
    if kwargs.get("batch_representation", "one-hot") == "embedding" and not condition_on_batch:
        msg = (
            'batch_representation="embedding" needs a decoder that is conditioned on batch. Set condition_on_batch=True, or '
            "leave it out."
        )
        raise ValueError(msg)


def n_encoder_input(registry: dict | None) -> int | None:
    """Columns of the encoder's own input, ``None`` if it reads the counts."""
    field = None if registry is None else registry["field_registries"].get(ENCODER_INPUT_KEY)
    return None if field is None else int(field["summary_stats"][f"n_{ENCODER_INPUT_KEY}"])
