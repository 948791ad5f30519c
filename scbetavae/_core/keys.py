"""Every AnnData key that the package reads or writes, once.

Anything stored under :data:`UNS` is a flat dict of plain values or a DataFrame with string columns, so that it
survives ``write_h5ad`` and ``write_zarr``. A category label is always a value, never a key.
"""

# Entries of AnnData
UNS = "betavae"  # .uns: everything the package writes
LATENT = "X_betavae"  # .obsm: posterior means, cells x latent dimensions
LATENT_ZEROED = "X_betavae_zeroed"  # .obsm: posterior means whose batch dimensions were set to a constant
LATENT_UMAP = "X_umap"  # .obsm: scanpy's UMAP coordinates
OBSERVED = "observed"  # .layers of predicted cells: the counts that were observed
EXPECTED = "expected"  # .layers of predicted cells: the expected counts of which .X is a draw
MEAN_SHIFT = "mean_shift"  # .layers of predicted cells: the mean-shift baseline

# Results: entries of .uns[UNS]. A DataFrame goes with a flat dict of the same name and PARAMS_SUFFIX.
LATENT_TABLE = "latent"  # one row per dimension of the embedding that its parameters name
PARAMS = "params"  # constructor and training arguments, a flat dict
HISTORY = "history"  # training history, one row per epoch or, for short runs, more
CONFOUNDING = "confounding"  # accuracy for each guided covariate that other covariates explain, before training
GUIDED = "guided"  # one row per guided covariate: accuracy left in the free dimensions
SIMULATION = "simulation"  # parameters of simulated data
PLANTED_BATCH = "planted_batch"  # parameters of a planted batch effect; also .varm: its log fold changes
DISENTANGLEMENT = "disentanglement"  # scores of one embedding
EMBEDDING_COMPARISON = "embedding_comparison"  # scores of several embeddings, with a column `embedding`
LATENT_SUMMARY = "latent_summary"  # one row per latent dimension
BATCH_DIMENSIONS = "batch_dimensions"  # how strongly each dimension encodes batch
BATCH_REMOVAL = "batch_removal"  # the batch-removal report
TRAVERSAL = "traversal"  # fold changes along dimensions, a long table
DIMENSION_GENES = "dimension_genes"  # top genes of each dimension and direction
GENE_SETS = "gene_sets"  # enrichment of gene sets in the genes of each dimension
DIMENSIONS = "dimensions"  # dimension cards: name, what a dimension encodes, genes and gene sets
COUNTERFACTUAL = "counterfactual"  # of predicted cells: error of the prediction and its baselines
CONDITION_PREDICTION = "condition_prediction"  # accuracy of each dimension for one covariate
DIMENSION_TESTS = "dimension_tests"  # which dimensions differ between two levels of a covariate, over donors
INTEGRATION = "integration"  # bio-conservation and batch mixing of an embedding
CONSENSUS = "consensus"  # matched dimensions of several embeddings
EARLIER = "earlier_embeddings"  # fingerprints of embeddings from before the last training
FINGERPRINT = "fingerprint"  # entry of parameters that ties a result to the embedding that it describes

# Endings of further tables of a result
PARAMS_SUFFIX = "_params"  # how it was made, a flat dict
DIMENSIONS_SUFFIX = "_dimensions"  # dimension x covariate table of scores
ASSOCIATION_SUFFIX = "_covariates"  # how the scored covariates relate to each other
STEPS_SUFFIX = "_steps"  # every step of a search for batch dimensions
REPORT_SUFFIX = "_report"  # accuracies before and after a removal
MATCHES_SUFFIX = "_matches"  # which dimension of which embedding was matched
GENES_SUFFIX = "_genes"  # gene-wise means of a counterfactual
CLUSTERS_SUFFIX = "_clusters"  # .obs: clusters that were conserved because no covariate was given
HELD_OUT_SUFFIX = "_held_out"  # .obs: cells that took no part in a search
