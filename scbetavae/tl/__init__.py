"""Functions on an AnnData with any embedding: results go to `.uns` and come back as tidy data frames."""

# What is not in __all__ is for the model, which refuses bad input before it encodes.
from scbetavae.tl._batch_inputs import check_left as check_left
from scbetavae.tl._batch_inputs import check_removal as check_removal
from scbetavae.tl._batch_inputs import check_search as check_search
from scbetavae.tl._batch_inputs import read_cells as read_cells
from scbetavae.tl._compare_embeddings import compare_embeddings
from scbetavae.tl._consensus_dimensions import consensus_dimensions
from scbetavae.tl._describe_dimensions import Sources as Sources
from scbetavae.tl._describe_dimensions import check_description as check_description
from scbetavae.tl._describe_dimensions import describe_dimensions
from scbetavae.tl._describe_dimensions import run_description as run_description
from scbetavae.tl._dimension_names import read_names as read_names
from scbetavae.tl._enrich_dimensions import GeneSets as GeneSets
from scbetavae.tl._enrich_dimensions import enrich_dimensions
from scbetavae.tl._find_batch_dimensions import find_batch_dimensions
from scbetavae.tl._find_batch_dimensions import run_search as run_search
from scbetavae.tl._gene_changes import STORED_WHOLE as STORED_WHOLE
from scbetavae.tl._gene_changes import gene_changes as gene_changes
from scbetavae.tl._predict_condition import predict_condition
from scbetavae.tl._rank_dimension_genes import keep_top_genes as keep_top_genes
from scbetavae.tl._rank_dimension_genes import rank_dimension_genes
from scbetavae.tl._score_disentanglement import score_disentanglement
from scbetavae.tl._score_integration import score_integration
from scbetavae.tl._technical import read_technical as read_technical
from scbetavae.tl._test_dimensions import test_dimensions
from scbetavae.tl._zero_batch_dimensions import run_removal as run_removal
from scbetavae.tl._zero_batch_dimensions import zero_batch_dimensions

__all__ = [
    "compare_embeddings",
    "consensus_dimensions",
    "describe_dimensions",
    "enrich_dimensions",
    "find_batch_dimensions",
    "predict_condition",
    "rank_dimension_genes",
    "score_disentanglement",
    "score_integration",
    "test_dimensions",
    "zero_batch_dimensions",
]
