"""Every AnnData key that the package reads or writes, once.

Anything stored under :data:`UNS` is a flat dict of plain values or a DataFrame with string columns, so that it
survives ``write_h5ad`` and ``write_zarr``. A category label is always a value, never a key.
"""

UNS = "betavae"
"""``.uns`` entry that holds everything the package writes."""

LATENT = "X_betavae"
"""``.obsm`` entry of the posterior means, cells x latent dimensions."""

LATENT_UMAP = "X_umap"
"""``.obsm`` entry of scanpy's UMAP coordinates."""

PARAMS = "params"
"""``.uns[UNS]`` entry: constructor and training arguments, a flat dict."""

HISTORY = "history"
"""``.uns[UNS]`` entry: a DataFrame, a row an epoch."""

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

SCORE_PARAMS_SUFFIX = "_params"
"""Ending of the ``.uns[UNS]`` entry with what was scored and how, a flat dict."""
