"""The model class: what a user calls."""

from __future__ import annotations

import os
import warnings
from typing import Any, Literal, Self

from anndata import AnnData
from scvi import REGISTRY_KEYS, settings
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

from scbetavae.module import (
    ENCODER_INPUT_KEY,
    OBJECTIVES,
    BetaVAEModule,
    Objective,
    check_anchor,
    resolve_objective,
)
from scbetavae.train import AdversarialTrainingPlan

from . import _checks, _genes
from ._arguments import COUNT_LIKELIHOODS, check_arguments
from ._condition_prediction import ConditionPredictionMixin
from ._counterfactual import CounterfactualMixin
from ._decoding import DecodingMixin
from ._encoding import EncodingMixin
from ._find_batch_dimensions import find_batch_dimensions
from ._fingerprint import check_unchanged, remember_data
from ._latent import compute_latent, registered_classes
from ._latent_summary import LatentSummaryMixin
from ._query import freeze_reference, is_told_nothing, place_new_categories
from ._registered_cells import RegisteredCellsMixin
from ._scores import ScoresMixin
from ._training import TrainingMixin
from ._zero_batch_dimensions import zero_batch_dimensions


class BetaVAE(
    TrainingMixin,
    ScoresMixin,
    LatentSummaryMixin,
    DecodingMixin,
    CounterfactualMixin,
    ConditionPredictionMixin,
    EncodingMixin,
    RegisteredCellsMixin,
    SCVI,
):
    r"""Beta-variational autoencoder of single-cell counts.

    Explains counts with a decoder of few latent dimensions and asks, through a regularizer of weight beta, that these
    dimensions carry little and independent information:

    .. math:: \mathcal{L} = -\log p(x \mid z) + r(t)\, R, \qquad r(t) = \beta(t) / \beta

    with :math:`R = \beta \, \mathrm{KL}(q(z \mid x) \,\|\, p(z))` for ``objective="beta_vae"`` :cite:p:`Higgins2017`. All
    that :class:`scvi.model.SCVI` :cite:p:`Lopez18` can do is inherited.

    Parameters
    ----------
    adata
        Annotated data that :meth:`setup_anndata` was called on.
    registry
        Registry of a data module, in place of ``adata``.
    beta
        Weight of the regularizer, in nats per nat, at least 0. ``1`` is a plain VAE. The negative log-likelihood sums over
        genes, so the same beta is weaker on a larger or deeper panel. ``None`` takes 2; objectives without a beta
        (``"capacity"``, ``"dip_vae_i"``, ``"dip_vae_ii"``) take none.
    objective
        Key of ``scbetavae.module.OBJECTIVES``: ``"beta_vae"``, ``"capacity"``, ``"beta_tcvae"``, ``"factor_vae"``,
        ``"dip_vae_i"``, ``"dip_vae_ii"`` or one that you registered; or a subclass of
        :class:`~scbetavae.module.Objective`. ``None`` takes ``"beta_tcvae"``, which keeps factors in single dimensions in
        more data sets than the others, or ``"beta_vae"`` with ``latent_distribution="ln"``.
    objective_kwargs
        Arguments of the objective: ``capacity`` and ``gamma`` (capacity); ``estimator`` (beta_tcvae); ``gamma``,
        ``n_hidden`` and ``n_layers`` of the discriminator (factor_vae); ``lambda_od``, ``lambda_d`` and ``momentum``
        (dip_vae_i, dip_vae_ii).
    anchor
        What makes the dimensions the same in every seed: ``"ica"`` starts the posterior means at independent components of the
        log-normalized counts, in order of the variance that they explain, and releases them over the first 30% of the run.
        ``"programs"``, for one dimension a cell type or program, starts at the two-level factors that all classes share and
        at programs of a non-negative matrix factorization, and releases them over the whole run. It wants more
        dimensions than the default, such as ``n_latent=32``, and otherwise takes fewer programs. ``None`` for no anchor.
        There is none for a logistic normal or data that are not counts.
    anchor_kwargs
        ``n_components`` of the anchor (by default as many as exceed chance, two and a half times as many for programs, at most
        ``n_latent``), its ``weight`` (10) and the share of the run over which it is released (``release``).
    condition_on_batch
        Whether the decoder is told the batch, as in scVI. By default it is not, so that batch shows in latent dimensions,
        where it can be seen and set to zero.
    n_hidden
        Nodes of a hidden layer.
    n_latent
        Latent dimensions.
    n_layers
        Hidden layers of the encoder and of the decoder.
    dropout_rate
        Dropout of the encoder, in [0, 1).
    dispersion
        What the inverse dispersion depends on: ``"gene"``, ``"gene-batch"``, ``"gene-label"`` or ``"gene-cell"``.
    gene_likelihood
        ``"nb"``, ``"zinb"`` or ``"poisson"`` for raw counts, ``"normal"`` for other values of at least 0.
    use_observed_lib_size
        Whether the library size is the sum of a cell's counts; otherwise it is latent, too.
    latent_distribution
        ``"normal"``, or ``"ln"`` for a logistic normal.
    **kwargs
        Further arguments of :class:`scvi.module.VAE`.

    Raises
    ------
    ValueError
        If ``adata`` was not set up, a value is not allowed, or a likelihood of counts is given data that are no counts.
    TypeError
        For an argument that does not exist, with the nearest that does.

    See Also
    --------
    scvi.model.SCVI

    References
    ----------
    :cite:t:`Higgins2017`, :cite:t:`Lopez18`

    Examples
    --------
    >>> import scbetavae
    >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
    >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="bulk_labels")
    >>> model = scbetavae.model.BetaVAE(adata, beta=4.0, n_latent=8)
    >>> _ = model.train(max_epochs=2, beta_schedule="linear", enable_progress_bar=False, accelerator="cpu")
    >>> model.get_latent_representation().shape
    (700, 8)
    """

    find_batch_dimensions = find_batch_dimensions
    zero_batch_dimensions = zero_batch_dimensions

    _module_cls = BetaVAEModule
    _latent = compute_latent
    _registered_classes = registered_classes
    # Not scVI's keys: data minified by one model must not be taken for data minified by the other.
    _LATENT_QZM_KEY = "betavae_latent_qzm"
    _LATENT_QZV_KEY = "betavae_latent_qzv"

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict | None = None,
        *,
        beta: float | None = None,
        objective: str | type[Objective] | None = None,
        objective_kwargs: dict[str, Any] | None = None,
        anchor: str | None = "ica",
        anchor_kwargs: dict[str, Any] | None = None,
        condition_on_batch: bool = False,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        gene_likelihood: Literal["nb", "zinb", "poisson", "normal"] = "nb",
        use_observed_lib_size: bool = True,
        latent_distribution: Literal["normal", "ln"] = "normal",
        **kwargs: Any,
    ) -> None:
        objective, beta = resolve_objective(objective, beta, objective_kwargs, latent_distribution)
        check_anchor(anchor, anchor_kwargs, n_latent)
        check_arguments(type(self), gene_likelihood, condition_on_batch, kwargs)
        if adata is None and registry is None:
            msg = "BetaVAE needs data: BetaVAE(adata), after BetaVAE.setup_anndata(adata)."
            raise ValueError(msg)
        if adata is not None:
            manager = type(self)._get_most_recent_anndata_manager(adata, required=True)
            check_unchanged(manager, whole=True)
            registry_ = manager.registry
            if gene_likelihood in COUNT_LIKELIHOODS and _get_adata_minify_type(adata) is None:
                _checks.check_integer_counts(adata, registry_["setup_args"]["layer"], gene_likelihood)
        else:
            registry_ = registry
        super().__init__(
            adata,
            registry,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            use_observed_lib_size=use_observed_lib_size,
            latent_distribution=latent_distribution,
            beta=beta,
            objective=objective,
            objective_kwargs=objective_kwargs,
            anchor=anchor,
            anchor_kwargs=anchor_kwargs,
            condition_on_batch=condition_on_batch,
            n_encoder_input=_n_encoder_input(registry_),
            **kwargs,
        )
        if OBJECTIVES[objective].has_discriminator:
            self._training_plan_cls = AdversarialTrainingPlan
        self._model_summary_string = (
            f"BetaVAE model with the following parameters: \nobjective: {objective}, beta: {beta:g}, "
            f"n_latent: {n_latent}, n_hidden: {n_hidden}, n_layers: {n_layers}, gene_likelihood: {gene_likelihood}, "
            f"condition_on_batch: {condition_on_batch}."
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        encoder_obsm_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Tell the model where the data are. Looks once through the counts and changes none of them.

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
        categorical_covariate_keys
            Columns of ``.obs`` that the decoder is told as categories.
        continuous_covariate_keys
            Columns of ``.obs`` that the decoder is told as numbers.
        encoder_obsm_key
            Entry of ``.obsm``, for example ``"X_pca"``, that the encoder reads in place of the counts. The decoder still
            explains the counts. New data need the same entry, made in the same way, with the same columns.
        **kwargs
            What scvi-tools passes when it transfers a set-up to other data.

        Raises
        ------
        KeyError
            For a key that is not there, with the nearest that is.
        ValueError
            For a view, gene names that occur twice, missing labels, values that are negative or not finite, or cells
            without counts.
        TypeError
            If ``adata`` is no AnnData or a numeric covariate holds no numbers.

        Examples
        --------
        >>> import scbetavae
        >>> adata = scbetavae.datasets.pbmc68k(planted_batches=2)
        >>> scbetavae.model.BetaVAE.setup_anndata(adata, batch_key="batch")
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        minified = isinstance(adata, AnnData) and _get_adata_minify_type(adata) is not None
        obs_keys = {"batch_key": batch_key, "labels_key": labels_key}
        obs_keys |= {f"categorical_covariate_keys[{i}]": k for i, k in enumerate(categorical_covariate_keys or ())}
        numeric_keys = {"size_factor_key": size_factor_key}
        numeric_keys |= {f"continuous_covariate_keys[{i}]": k for i, k in enumerate(continuous_covariate_keys or ())}
        _checks.check_adata(adata)
        _genes.check_unique_genes(adata)
        if "source_registry" not in kwargs:  # for a transfer, scvi-tools knows which columns may be missing
            _checks.check_keys(adata.obs.columns, obs_keys | numeric_keys, "adata.obs")
        _checks.check_keys(adata.layers.keys(), {"layer": layer}, "adata.layers")
        _checks.check_no_missing(adata, obs_keys, numeric=False)
        _checks.check_no_missing(adata, numeric_keys, numeric=True)
        _checks.check_positive(adata, "size_factor_key", size_factor_key)
        _checks.check_encoder_input(adata, encoder_obsm_key)
        if not minified:
            _checks.check_matrix(adata, layer)

        fields = [
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
        if minified:
            fields += cls._get_fields_for_adata_minification(_get_adata_minify_type(adata))
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        remember_data(manager)
        cls.register_manager(manager)

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData | None = None,
        reference_model: Any = None,
        *args: Any,
        unfrozen: bool = False,
        **kwargs: Any,
    ) -> Self:
        """Map query cells with a trained model, as :meth:`scvi.model.SCVI.load_query_data`.

        Training changes what belongs to batches and covariates, and scale and shift of the decoder's batch norm. All else
        stays as the reference learned it, the running statistics of batch norm included. A new category starts at the mean
        of those that the reference knows. A model that is not conditioned on batch has no weights for the batches of the
        query: it maps query cells as it is, without training, unless its dispersion depends on batches or labels that are
        new. To adapt all of it, pass ``unfrozen=True`` and train.

        Parameters
        ----------
        adata
            Query cells, with the genes of the reference. In another order, the model holds a copy in its own order.
        reference_model
            A trained model, or the folder it was saved to.
        *args, unfrozen, **kwargs
            As in scVI's method.

        Returns
        -------
        Model of the query cells. ``is_trained`` says whether it can be used as it is.

        Warns
        -----
        UserWarning
            If a model that would map query cells as it is has to learn their dispersion first.
        """
        if isinstance(reference_model, os.PathLike):
            reference_model = os.fspath(reference_model)
        if isinstance(adata, AnnData) and reference_model is not None:
            subset = kwargs.get("inplace_subset_query_vars", args[1] if len(args) > 1 else False)
            adata = cls._in_order_of(adata, cls._registry_of(reference_model), more_allowed=subset)
        model = super().load_query_data(adata, reference_model, *args, unfrozen=unfrozen, **kwargs)
        model.starts_from_weights_ = True
        is_folder = isinstance(reference_model, str)
        reference = cls.load_registry(reference_model) if is_folder else reference_model.registry_
        place_new_categories(model.module, reference)
        if unfrozen:
            return model
        told_nothing = is_told_nothing(model.module)
        nothing_else = told_nothing and all(value for name, value in kwargs.items() if name.startswith("freeze_"))
        must_train = freeze_reference(model.module, reference, nothing_else=nothing_else)
        if must_train and told_nothing:
            warnings.warn(
                f"The query has batches or labels that the reference does not know, and dispersion={model.module.dispersion!r} "
                "has weights of each of them. Train the model before using it: only these weights will change.",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
        model.is_trained_ = nothing_else and not must_train
        return model

    def _get_transform_batch_gen_kwargs(self, batch: Any) -> dict[str, Any]:
        """Arguments that decode as another batch; every method of scvi-tools that takes ``transform_batch`` asks for them."""
        if batch is not None and not self.module.condition_on_batch:
            msg = (
                "transform_batch, and batch_correction, batchid1 and batchid2 of differential_expression, need a decoder that "
                "is conditioned on batch, but this model has condition_on_batch=False: all batches decode alike. Leave them "
                "out, or train BetaVAE(adata, condition_on_batch=True)."
            )
            raise ValueError(msg)
        return super()._get_transform_batch_gen_kwargs(batch)


def _n_encoder_input(registry: dict) -> int | None:
    """Columns of the encoder's own input, ``None`` if it reads the counts."""
    field = registry["field_registries"].get(ENCODER_INPUT_KEY)
    return None if field is None else int(field["summary_stats"][f"n_{ENCODER_INPUT_KEY}"])
