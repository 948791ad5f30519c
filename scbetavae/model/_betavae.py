"""The model class: its methods are functions, one operation per file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from anndata import AnnData
from scvi.data._utils import _get_adata_minify_type
from scvi.model import SCVI

from scbetavae.module import OBJECTIVES, BetaVAEModule, Objective, check_anchor, resolve_objective
from scbetavae.train import AdversarialTrainingPlan, BetaVAETrainingPlan, BetaVAETrainRunner, InMemoryDataSplitter

from . import _registered_cells as _cells
from ._checks import check_integer_counts
from ._counterfactual import counterfactual
from ._data_module import allow_no_data
from ._decoding import decode
from ._describe_dimensions import describe_dimensions
from ._describe_guided import describe_guided
from ._encoding import get_latent_representation, make_data_loader
from ._find_batch_dimensions import find_batch_dimensions
from ._fingerprint import check_unchanged
from ._guided import check_guided, network_arguments, predict_guided
from ._guided_field import guided_covariates
from ._latent import compute_latent
from ._latent_summary import get_latent_summary, to_latent_adata
from ._predict_condition import predict_condition
from ._query import load_query_data
from ._registered_cells import COUNT_LIKELIHOODS
from ._repr_html import repr_html
from ._score_disentanglement import score_disentanglement
from ._scvi_arguments import check_if_trained, scvi_arguments, user_attributes
from ._setup import check_model_arguments, n_encoder_input, setup_anndata
from ._training import train
from ._traversal import traverse
from ._write_report import write_report
from ._zero_batch_dimensions import zero_batch_dimensions


class BetaVAE(SCVI):
    r"""Beta-variational autoencoder of single-cell counts.

    Explains counts with a decoder of few latent dimensions and asks, through a regularizer of weight beta, that these dimensions
    carry little and independent information:

    .. math:: \mathcal{L} = -\log p(x \mid z) + r(t)\, R, \qquad r(t) = \beta(t) / \beta

    with :math:`R = \beta \, \mathrm{KL}(q(z \mid x) \,\|\, p(z))` for ``objective="beta_vae"`` :cite:p:`Higgins2017`. All that
    :class:`scvi.model.SCVI` :cite:p:`Lopez18` can do is inherited. What needs a trained model raises a RuntimeError without one.

    Parameters
    ----------
    adata
        Annotated data that :meth:`setup_anndata` was called on. Without data and without ``registry``, the network is built by
        ``train(datamodule=...)``, as in scVI, with a UserWarning.
    registry
        Registry of a data module, in place of ``adata``.
    beta
        Weight of the regularizer, the exchange rate between reconstruction and KL, at least 0. ``1`` is a plain VAE. The
        negative log-likelihood sums over genes, so the same beta is weaker on a larger or deeper panel. ``None`` takes 2, or 4
        with guided covariates;
        objectives without a beta (``"capacity"``, ``"dip_vae_i"``, ``"dip_vae_ii"``) take none.
    objective
        Key of ``scbetavae.module.OBJECTIVES``: ``"beta_vae"``, ``"capacity"``, ``"beta_tcvae"``, ``"factor_vae"``,
        ``"dip_vae_i"``, ``"dip_vae_ii"`` or one that you registered; or a subclass of :class:`~scbetavae.module.Objective`.
        ``None`` takes ``"beta_tcvae"``, which keeps factors in single dimensions in more data sets than the others, or
        ``"beta_vae"`` with guided covariates or ``latent_distribution="ln"``.
    objective_kwargs
        Arguments of the objective: ``capacity`` and ``gamma`` (capacity); ``estimator`` (beta_tcvae); ``gamma``, ``n_hidden`` and
        ``n_layers`` of the discriminator (factor_vae); ``lambda_od``, ``lambda_d`` and ``momentum`` (dip_vae_i, dip_vae_ii).
    anchor
        What makes the dimensions the same in every seed: ``"ica"`` starts the posterior means at independent components of the
        log-normalized counts, in order of the variance that they explain, and releases them over the first 30% of the run.
        ``"programs"``, for one dimension per cell type or program, starts at the two-level factors that all classes share and at
        programs of a non-negative matrix factorization, and releases them over the whole run. It wants more dimensions than the
        default, such as ``n_latent=32``, and otherwise takes fewer programs. ``None`` for no anchor. There is none for a logistic
        normal or data that are not counts.
    anchor_kwargs
        ``n_components`` of the anchor (by default as many as exceed chance, two and a half times as many for programs, at most
        ``n_latent``), its ``weight`` (10) and the share of the run over which it is released (``release``; 0.8 for independent
        components with guided covariates).
    guided_kwargs
        For ``setup_anndata(guided_keys=[...])``: the largest number of guided dimensions per covariate (``n_dimensions``, 8); the
        ``weight`` of the mutual information between free dimensions and each covariate (30); the noise on guided dimensions in
        training, ``sigma`` (1, or 0.1 for numbers); ``mode="inferred"``, which infers guided dimensions from the counts, for
        data with many missing labels, in place of ``"label"``; ``conserve``, columns of ``.obs`` besides the labels that the
        guided covariates must not be confounded with; ``force=True``, to train although they are. ``n_latent`` counts free
        dimensions; guided ones come after them.
    condition_on_batch
        Whether the decoder is conditioned on batch, as in scVI. By default it is not, so that latent dimensions encode batch
        effects, which can be seen and removed.
    n_hidden, n_layers, n_latent
        Nodes of a hidden layer, hidden layers of the encoder and of the decoder, and latent dimensions.
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
        If ``adata`` was not set up, a value is not allowed, or a likelihood of counts is given non-count data.
    TypeError
        For an argument that does not exist; the nearest is suggested.

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

    setup_anndata = classmethod(setup_anndata)  # pyright: ignore[reportAssignmentType]
    train = train  # pyright: ignore[reportAssignmentType]
    load = classmethod(_cells.load)  # pyright: ignore[reportAssignmentType]
    load_query_data = classmethod(load_query_data)  # pyright: ignore[reportAssignmentType]
    minify_adata = _cells.minify_adata

    get_latent_representation = get_latent_representation
    get_aggregated_posterior = _cells.get_aggregated_posterior  # pyright: ignore[reportAssignmentType]
    get_normalized_expression = _cells.get_normalized_expression  # pyright: ignore[reportAssignmentType]
    differential_expression = _cells.differential_expression
    differential_abundance = _cells.differential_abundance  # pyright: ignore[reportAssignmentType]

    get_latent_summary = get_latent_summary
    to_latent_adata = to_latent_adata
    describe_dimensions = describe_dimensions
    describe_guided = describe_guided
    score_disentanglement = score_disentanglement
    predict_condition = predict_condition
    predict_guided = predict_guided
    find_batch_dimensions = find_batch_dimensions
    zero_batch_dimensions = zero_batch_dimensions
    decode = decode
    traverse = traverse
    counterfactual = counterfactual
    write_report = write_report
    _repr_html_ = repr_html

    starts_from_weights_: bool = False
    """Whether the weights were loaded, so that training goes on from them."""
    _guided_options: dict[str, Any] = {}  # noqa: RUF012 - replaced, never changed
    minibatches_per_epoch_: int | None = None
    """Minibatches in an epoch of the last training."""
    dimension_names_: dict[int, str] | None = None
    """Names that the user gave to dimensions."""

    if TYPE_CHECKING:  # scvi-tools declares them as None, of several types, or not at all
        adata: Any
        module: Any
        registry_: dict[str, Any]
        history: Any
        history_: Any
        trainer: Any
        device: Any
        adata_manager: Any
    else:
        adata = SCVI.adata.setter(_cells.set_adata)

    # Hooks of scvi-tools
    _module_cls = BetaVAEModule
    _training_plan_cls = BetaVAETrainingPlan
    _data_splitter_cls = InMemoryDataSplitter
    _train_runner_cls = BetaVAETrainRunner
    _validate_anndata = _cells.validate_anndata  # pyright: ignore[reportAssignmentType]
    _make_data_loader = make_data_loader  # pyright: ignore[reportAssignmentType]
    _get_user_attributes = user_attributes
    _check_if_trained = check_if_trained  # pyright: ignore[reportAssignmentType]
    # Not scVI's keys: data minified by one model must not be taken for data minified by the other.
    _LATENT_QZM_KEY = "betavae_latent_qzm"
    _LATENT_QZV_KEY = "betavae_latent_qzv"

    _latent = compute_latent

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
        guided_kwargs: dict[str, Any] | None = None,
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
        manager: Any = None if adata is None else type(self)._get_most_recent_anndata_manager(adata, required=True)
        registry_: Any = registry if manager is None else manager.registry
        guided = guided_covariates(registry_)
        objective, beta = resolve_objective(
            objective, beta, objective_kwargs, latent_distribution, is_guided=bool(guided)
        )
        check_anchor(anchor, anchor_kwargs, n_latent)
        check_model_arguments(type(self), gene_likelihood, condition_on_batch, kwargs)
        check_guided(registry_, guided_kwargs, condition_on_batch, latent_distribution)
        if adata is not None:
            check_unchanged(manager, whole=True)
            if gene_likelihood in COUNT_LIKELIHOODS and _get_adata_minify_type(adata) is None:
                check_integer_counts(adata, registry_["setup_args"]["layer"], gene_likelihood)
        own_class: Any = allow_no_data(self) if registry_ is None else type(self)
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
            n_encoder_input=n_encoder_input(registry_),
            guided=guided,
            guided_kwargs=network_arguments(guided_kwargs),
            **kwargs,
        )
        self._guided_options = dict(guided_kwargs or {})
        self.__class__ = own_class
        if OBJECTIVES[objective].has_discriminator:
            self._training_plan_cls = AdversarialTrainingPlan
        self._model_summary_string = (
            f"BetaVAE model with the following parameters: \nobjective: {objective}, beta: {beta:g}, "
            f"n_latent: {n_latent}, n_hidden: {n_hidden}, n_layers: {n_layers}, gene_likelihood: {gene_likelihood}, "
            f"condition_on_batch: {condition_on_batch}."
        )
        self._arguments = self._get_init_params(locals())
        self.init_params_ = scvi_arguments(self._arguments)

    def _get_transform_batch_gen_kwargs(self, batch: Any) -> dict[str, Any]:
        """Arguments that decode as another batch, for every method of scvi-tools that takes ``transform_batch``."""
        if batch is not None and not self.module.condition_on_batch:
            msg = (
                "transform_batch, and batch_correction, batchid1 and batchid2 of differential_expression, need a decoder that "
                "is conditioned on batch, but this model has condition_on_batch=False: all batches decode alike. Leave them "
                "out, or train BetaVAE(adata, condition_on_batch=True)."
            )
            raise ValueError(msg)
        return super()._get_transform_batch_gen_kwargs(batch)
