"""Decoding as another batch: every method that offers it refuses it where the decoder is not conditioned on batch."""

import inspect

import numpy as np
import pytest

from scbetavae.model import BetaVAE

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
METHODS = [
    name
    for name, method in inspect.getmembers(BetaVAE, inspect.isfunction)
    if not name.startswith("_") and "transform_batch" in inspect.signature(method).parameters
]


@pytest.fixture(scope="module")
def models(make_model, _counts_adata):
    """A model without and a model with a conditioned decoder."""
    setup = {"batch_key": "batch", "labels_key": "labels"}
    return [make_model(_counts_adata.copy(), setup, epochs=1, condition_on_batch=told) for told in (False, True)]


def test_the_methods_are_found():
    assert {"get_normalized_expression", "get_feature_correlation_matrix", "posterior_predictive_sample"} <= {*METHODS}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("batch", ["batch_1", ["batch_2"], ["batch_1", "batch_2"]])
def test_an_unconditioned_decoder_refuses(models, method, batch):
    untold, told = models
    getattr(told, method)(indices=[0, 1, 2, 3], transform_batch=batch)
    getattr(untold, method)(indices=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"transform_batch.*condition_on_batch=False.*condition_on_batch=True"):
        getattr(untold, method)(indices=[0, 1, 2, 3], transform_batch=batch)


@pytest.mark.parametrize(
    "arguments",
    [{"batch_correction": True}, {"batch_correction": True, "batchid1": ["batch_1"], "batchid2": ["batch_2"]}],
)
def test_differential_expression_across_batches_is_refused_too(models, arguments):
    untold, told = models
    compared = {"groupby": "labels", "group1": "B cell", "group2": "T cell", "silent": True}
    assert np.isfinite(told.differential_expression(**compared, **arguments)["bayes_factor"]).all()
    assert np.isfinite(untold.differential_expression(**compared)["bayes_factor"]).all()
    with pytest.raises(ValueError, match=r"batch_correction.*condition_on_batch=False"):
        untold.differential_expression(**compared, **arguments)
