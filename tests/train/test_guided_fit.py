"""What is fitted to training cells before a guided run: groups of the anchor, shares, bins and the classifier."""

import numpy as np
import pytest
import torch
from scipy import sparse

from scbetavae.module import BetaVAEModule, GuidedCovariate
from scbetavae.train._anchor_fit import _merge_small
from scbetavae.train._guided_fit import fit_guided
from scbetavae.train._initialization import TrainingCells


@pytest.mark.parametrize(("n_small", "own"), [(19, False), (20, True)])
def test_groups_of_20_cells_have_an_offset_of_their_own(n_small, own):
    groups = np.repeat([0, 1, 3], [100, n_small, 40])
    compact, place = _merge_small(groups, 5)
    assert len(set(compact[groups == 0])) == 1
    assert (place[1] != place[0]) == own
    np.testing.assert_array_equal(compact, place[groups])
    assert set(place) <= set(compact)  # also of the groups 2 and 4 that have no cells


def test_many_small_groups_share_one():
    compact, place = _merge_small(np.repeat([0, 1, 2], [100, 15, 15]), 4)
    assert place[1] == place[2] == place[3] != place[0]
    assert set(compact) == {0, 1}


def cells():
    rng = np.random.default_rng(0)
    level, age = rng.integers(3, size=300), rng.uniform(20, 80, size=300)
    rate = np.where(np.arange(30)[None] // 10 == level[:, None], 9.0, 1.0)
    counts = np.hstack([rng.poisson(rate), rng.poisson(np.tile(age[:, None] / 5, 10))])
    values = np.column_stack([np.arange(300), level, age])
    values[:60, 1], values[60:120, 2] = np.nan, np.nan
    zeros = np.zeros(300, dtype=np.int64)
    return TrainingCells(sparse.csr_matrix(counts, dtype=float), zeros, zeros, None, values), level, age


def test_shares_bins_and_the_classifier_of_missing_values():
    training, level, age = cells()
    covariates = [GuidedCovariate("level", 3), GuidedCovariate("age", 0, 50.0, 17.0)]
    module = BetaVAEModule(40, n_latent=3, n_hidden=8, guided=covariates)
    fit_guided(module, training)
    guided, known = module.guided, training.guided[60:, 1].astype(int)
    np.testing.assert_allclose(guided.shares[0], np.bincount(known) / 240, rtol=1e-5)
    np.testing.assert_allclose(guided.shares[1], 1 / 12, atol=0.01)
    values = torch.as_tensor(training.guided[:, 1:]).float()
    counts = torch.as_tensor(training.counts.toarray()).float()
    from scbetavae.module._anchor import log_normalize_nonzero
    from scbetavae.module._likelihood import nonzero_structure

    nonzero = nonzero_structure(counts)
    imputed = guided.impute(values, nonzero, log_normalize_nonzero(nonzero)).numpy()
    assert (imputed[:60, 0] == level[:60]).mean() > 0.95
    assert np.corrcoef(imputed[60:120, 1], age[60:120])[0, 1] > 0.8
    np.testing.assert_array_equal(imputed[120:], values.numpy()[120:])
    before = guided.imputer.clone()
    fit_guided(module, training)  # of a model that goes on training nothing is fitted again
    torch.testing.assert_close(guided.imputer, before)
