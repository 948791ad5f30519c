"""Every AnnData key that the package reads or writes, once.

Anything stored under :data:`UNS` is a flat dict of plain values or a DataFrame with string columns, so that it
survives ``write_h5ad`` and ``write_zarr``. A category label is always a value, never a key.
"""

from scbetavae._core.constants import ACTIVE_KL  # noqa: F401 - re-exported, so that every threshold is found here

UNS = "betavae"
"""``.uns`` entry that holds everything the package writes."""

LATENT = "X_betavae"
"""``.obsm`` entry of the posterior means, cells x latent dimensions."""

LATENT_TABLE = "latent"
"""``.uns[UNS]`` entry: one row per dimension of an embedding in ``.obsm``, named in ``_params``; a DataFrame."""

LATENT_UMAP = "X_umap"
"""``.obsm`` entry of scanpy's UMAP coordinates."""

PARAMS = "params"
"""``.uns[UNS]`` entry: constructor and training arguments, a flat dict."""

HISTORY = "history"
"""``.uns[UNS]`` entry: a DataFrame, a row an epoch or, for short runs, more."""

SIMULATION = "simulation"
"""``.uns[UNS]`` entry of simulated data: the parameters that made it."""

PLANTED_BATCH = "planted_batch"
"""``.uns[UNS]`` entry: the parameters of a planted batch effect; ``.varm`` entry: its gene-wise log fold changes."""

DISENTANGLEMENT = "disentanglement"
"""``.uns[UNS]`` entry: scores of one embedding, a DataFrame. What belongs to it goes by the same name and a suffix."""

EMBEDDING_COMPARISON = "embedding_comparison"
"""``.uns[UNS]`` entry: scores of several embeddings, a DataFrame with a column ``embedding``; the same suffixes."""

DIMENSIONS_SUFFIX = "_dimensions"
"""Ending of the ``.uns[UNS]`` entry with the dimension x covariate table that belongs to scores."""

ASSOCIATION_SUFFIX = "_covariates"
"""Ending of the ``.uns[UNS]`` entry that says how the scored covariates relate to each other."""

LATENT_ZEROED = "X_betavae_zeroed"
"""``.obsm`` entry of posterior means whose batch dimensions were set to a constant."""

LATENT_SUMMARY = "latent_summary"
"""``.uns[UNS]`` entry: a DataFrame, a row a latent dimension."""

BATCH_DIMENSIONS = "batch_dimensions"
"""``.uns[UNS]`` entry: how much batch each dimension holds, a DataFrame; with ``_params``, the rule and its summary."""

BATCH_REMOVAL = "batch_removal"
"""``.uns[UNS]`` entry: the batch-removal report, a DataFrame; with ``_params``, what was removed, status and summary."""

TRAVERSAL = "traversal"
"""``.uns[UNS]`` entry: fold changes along dimensions, a long DataFrame; with ``_params``, how they were made."""

DIMENSION_GENES = "dimension_genes"
"""``.uns[UNS]`` entry: top genes of each dimension and direction, a DataFrame."""

COUNTERFACTUAL = "counterfactual"
"""``.uns[UNS]`` entry of predicted cells: how near the prediction and its baselines come, a DataFrame; with ``_params``."""

CONDITION_PREDICTION = "condition_prediction"
"""``.uns[UNS]`` entry: accuracy of each dimension for one covariate, a DataFrame; with ``_params``."""

PARAMS_SUFFIX = "_params"
"""Ending of the ``.uns[UNS]`` entry that says how a result was made, a flat dict."""

FINGERPRINT = "fingerprint"
"""Entry of ``_params`` that ties a result to the embedding that it describes, text."""

EARLIER = "earlier_embeddings"
"""``.uns[UNS]`` entry: the fingerprint of embeddings that were there before the last training, a flat dict."""

STEPS_SUFFIX = "_steps"
"""Ending of the ``.uns[UNS]`` entry with every step of a search for batch dimensions, a DataFrame."""

CLUSTERS_SUFFIX = "_clusters"
"""Ending of the ``.obs`` column of clusters that were conserved for want of covariates."""

INTEGRATION = "integration"
"""``.uns[UNS]`` entry: how an embedding keeps cell types apart and mixes batches, a DataFrame; with ``_params``."""

CONSENSUS = "consensus"
"""``.uns[UNS]`` entry: matched dimensions of several embeddings, a DataFrame; with ``_params`` and ``_matches``."""

MATCHES_SUFFIX = "_matches"
"""Ending of the ``.uns[UNS]`` entry that says which dimension of which embedding was matched, a DataFrame."""

GENES_SUFFIX = "_genes"
"""Ending of the ``.uns[UNS]`` entry with the gene-wise means behind a counterfactual, a DataFrame."""

OBSERVED = "observed"
"""``.layers`` entry of predicted cells: the counts that were observed before anything was moved."""

EXPECTED = "expected"
"""``.layers`` entry of predicted cells: the expected counts of which ``.X`` is a draw."""

MEAN_SHIFT = "mean_shift"
"""``.layers`` entry of predicted cells: the baseline that shifts mean expression and knows no model."""

REPORT_SUFFIX = "_report"
"""Ending of the ``.uns[UNS]`` entry with accuracies before and after a removal, a DataFrame."""

HELD_OUT_SUFFIX = "_held_out"
"""Ending of the ``.obs`` column that marks cells that took no part in a search."""
