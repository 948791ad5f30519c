"""Programs and shared two-level factors: on planted classes, at the thresholds, in degenerate data, and inside a model."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from scipy import sparse

from scbetavae.model import BetaVAE
from scbetavae.train._components import log_normalize
from scbetavae.train._initialization import canonical_order
from scbetavae.train._programs import _scaled, find_programs, is_shared_factor

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SHARED = "two-level factor shared by all classes"
N_CELLS, N_GENES = 600, 140
SHARES = (0.35, 0.25, 0.2, 0.12, 0.08)
N_CLASSES = len(SHARES)


def planted_counts(n_cells=N_CELLS, seed=0):
    """Five exclusive classes with 20 genes each, and a factor of two levels over all classes with 30 genes."""
    rng = np.random.default_rng(seed)
    classes, level = rng.choice(N_CLASSES, n_cells, p=SHARES), rng.integers(2, size=n_cells)
    log_mean = np.tile(rng.normal(0.0, 0.3, N_GENES), (n_cells, 1))
    for c in range(N_CLASSES):
        log_mean[np.ix_(classes == c, np.arange(20 * c, 20 * c + 20))] += 1.5
    log_mean[np.ix_(level == 1, np.arange(105, 135))] += 1.5
    return sparse.csr_matrix(rng.poisson(np.exp(log_mean)).astype(np.float32)), classes, level


def values_of(programs, logs, groups):
    """Factors and programs of cells, in double precision: what the anchor computes from a minibatch."""
    n_factors = len(programs.thresholds)
    factors = logs @ programs.weights[:, :n_factors] + programs.offsets[groups, :n_factors]
    scaled = _scaled(logs, programs.log_scales, groups)
    for change, above in zip(programs.log_changes, (factors > programs.thresholds).T, strict=True):
        scaled = _scaled(scaled, np.stack([np.zeros_like(change), change]), above.astype(np.int64))
    use = np.maximum(scaled @ programs.weights[:, n_factors:], 0.0) + programs.offsets[groups, n_factors:]
    return np.hstack([factors, use])


def one_to_one(values, indicators):
    """Dimension that matches each indicator best, and their absolute correlations."""
    n = values.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.nan_to_num(np.abs(np.corrcoef(values, indicators, rowvar=False)[:n, n:]))
    return r.argmax(axis=0), r.max(axis=0)


@pytest.fixture(scope="module")
def planted():
    return planted_counts()


@pytest.fixture(scope="module")
def model(planted):
    counts, classes, level = planted
    obs = pd.DataFrame({"level": pd.Categorical(level.astype(str)), "class": pd.Categorical(classes.astype(str))})
    adata = anndata.AnnData(counts, obs=obs.set_index(obs.index.astype(str)))
    scvi.settings.seed = 0
    BetaVAE.setup_anndata(adata, batch_key="level")
    return BetaVAE(adata, anchor="programs", n_latent=9, n_hidden=16).train(max_steps=30, **QUIET)


def test_classes_and_a_shared_factor_are_recovered_one_to_one(planted):
    counts, classes, level = planted
    found, wanted = find_programs(log_normalize(counts), np.zeros(N_CELLS, dtype=int), 32)
    values = values_of(found, log_normalize(counts), np.zeros(N_CELLS, dtype=int))
    assert len(found.thresholds) == 1
    assert values.shape[1] == wanted < 32
    indicators = np.column_stack([level, *(classes == c for c in range(N_CLASSES))])
    match, r = one_to_one(values, indicators)
    assert match[0] == 0  # factors come first
    assert len(set(match)) == N_CLASSES + 1
    assert r.min() > 0.85
    # The program of a class does not know the level.
    assert np.abs(np.corrcoef(values[:, match[1:]], level, rowvar=False)[-1, :-1]).max() < 0.1
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(values.std(axis=0), 1.0, atol=1e-6)


def test_known_groups_are_no_factor_and_in_no_program(planted):
    counts, classes, level = planted
    found, _ = find_programs(log_normalize(counts), level, 10)
    values = values_of(found, log_normalize(counts), level)
    assert len(found.thresholds) == 0
    assert one_to_one(values, np.column_stack([classes == c for c in range(N_CLASSES)]))[1].min() > 0.85
    assert one_to_one(values, level[:, None])[1][0] < 0.05


def test_the_same_cells_give_the_same_programs(planted):
    logs, groups = log_normalize(planted[0]), np.zeros(N_CELLS, dtype=int)
    np.random.seed(1)  # noqa: NPY002
    first = find_programs(logs, groups, 10)[0]
    np.random.seed(2)  # noqa: NPY002
    for one, other in zip(first, find_programs(logs, groups, 10)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def two_levels(gap, n=4000, seed=0):
    """Normal noise of standard deviation 1 around two levels, scaled to variance 1: excess kurtosis -2 g^4 / (1 + g^2)^2."""
    rng = np.random.default_rng(seed)
    values = gap * np.repeat([-1.0, 1.0], n // 2) + rng.normal(size=n)
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize(("gap", "shared"), [(1.75, False), (1.95, True)])
def test_a_shared_factor_has_two_levels(gap, shared):
    """-1.2 is reached at a gap of 1.85."""
    noise = np.random.default_rng(1).normal(size=(4000, 2))
    assert is_shared_factor(np.column_stack([noise, two_levels(gap)])).tolist() == [False, False, shared]


@pytest.mark.parametrize(("flips", "shared"), [(0.24, False), (0.30, True)])
def test_no_other_component_tells_a_shared_factor(flips, shared):
    """A second component on the side of the first with a share of flips has ln 2 - H(flips), 20% and 12% of the entropy."""
    rng = np.random.default_rng(0)
    level = np.repeat([-1.0, 1.0], 2000)
    other = rng.normal(size=4000)
    other = np.abs(other) * level * np.where(rng.random(4000) < flips, -1.0, 1.0)
    assert is_shared_factor(np.column_stack([other, level]))[1] == shared


@pytest.mark.parametrize(("flips", "shared"), [(0.2, False), (0.3, True)])
def test_no_others_together_tell_a_shared_factor(flips, shared):
    """The product of two components tells the level, though neither does."""
    rng = np.random.default_rng(0)
    one, two = rng.choice([-1.0, 1.0], size=(2, 4000))
    level = one * two * np.where(rng.random(4000) < flips, -1.0, 1.0)
    others = np.column_stack([one, two]) + 0.1 * rng.normal(size=(4000, 2))
    assert is_shared_factor(np.column_stack([others, level]))[2] == shared


@pytest.mark.parametrize(("n_leading", "shared"), [(3, False), (None, True)])
def test_leading_others_tell_a_shared_factor_among_noise(n_leading, shared):
    """Thirty components of noise hide the two that tell the level together from clusters of all."""
    rng = np.random.default_rng(0)
    one, two = rng.choice([-1.0, 1.0], size=(2, 1000))
    noise = rng.laplace(scale=0.5**0.5, size=(1000, 30))
    values = np.column_stack([one, two, one * two, noise])
    assert is_shared_factor(values, n_leading)[2] == shared


def test_minibatch_targets_are_those_that_were_fitted(model):
    counts = model.adata.X[np.asarray(model.train_indices)]
    counts = counts[canonical_order(counts)]
    groups = np.zeros(counts.shape[0], dtype=int)
    expected = values_of(find_programs(log_normalize(counts), groups, 9)[0], log_normalize(counts), groups)
    dense = torch.from_numpy(counts.toarray())
    for minibatch in (dense, dense.to_sparse_csr()):
        targets = model.module.anchor.targets(minibatch, None).numpy()
        np.testing.assert_allclose(targets[:, : expected.shape[1]], expected, atol=1e-3)
        assert (targets[:, expected.shape[1] :] == 0).all()


def test_targets_of_groups_are_those_that_were_fitted(planted):
    from scbetavae.module._anchor import ProgramAnchor

    counts, _, level = planted
    found, _ = find_programs(log_normalize(counts), level, 6)
    anchor = ProgramAnchor(N_GENES, 8, 2)
    anchor.set_programs(*(torch.as_tensor(array, dtype=torch.float32) for array in found))
    targets = anchor.targets(torch.from_numpy(counts.toarray()), torch.from_numpy(level)[:, None]).numpy()
    np.testing.assert_allclose(targets[:, :6], values_of(found, log_normalize(counts), level), atol=1e-3)


def test_the_summary_names_what_each_dimension_started_from(model):
    summary = model.get_latent_summary()
    names = summary["anchor"].tolist()
    assert names[0] == SHARED
    n = model.module.anchor.n_components
    assert names[1:] == ["program"] * (n - 1) + [""] * (9 - n)
    codes = model.get_latent_representation()
    assert abs(np.corrcoef(codes[:, 0], model.adata.obs["level"] == "1")[0, 1]) > 0.7


def test_saved_and_loaded_programs_are_the_same(model, tmp_path):
    model.save(tmp_path / "model", save_anndata=False)
    loaded = BetaVAE.load(tmp_path / "model", adata=model.adata)
    counts = torch.from_numpy(model.adata.X[:50].toarray())
    before, after = (m.module.anchor.targets(counts, None).numpy() for m in (model, loaded))
    np.testing.assert_array_equal(after, before)
    assert loaded.module.anchor.target_names == model.module.anchor.target_names


def test_a_query_with_another_batch_keeps_the_programs(planted, tmp_path):
    counts, _, level = planted
    obs = pd.DataFrame({"batch": level.astype(str)}, index=[str(i) for i in range(N_CELLS)])
    reference = anndata.AnnData(counts, obs=obs)
    BetaVAE.setup_anndata(reference, batch_key="batch")
    model = BetaVAE(reference, anchor="programs", n_latent=8, n_hidden=16, condition_on_batch=True)
    model.train(max_steps=5, **QUIET)
    query = anndata.AnnData(counts[:100], obs=obs[:100].assign(batch="new"))
    mapped = BetaVAE.load_query_data(query, model)
    x, groups = torch.from_numpy(counts[:50].toarray()), torch.from_numpy(level[:50])[:, None]
    before, after = (m.module.anchor.targets(x, groups).numpy() for m in (model, mapped))
    np.testing.assert_allclose(after, before, atol=1e-5)
    mapped.train(max_steps=2, **QUIET)
    assert np.isfinite(mapped.get_latent_representation()).all()


@pytest.mark.parametrize(
    ("objective", "condition_on_batch"), [("beta_vae", True), ("beta_tcvae", False), ("factor_vae", True)]
)
def test_every_objective_trains_with_programs(counts_adata, objective, condition_on_batch):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(
        counts_adata, anchor="programs", objective=objective, condition_on_batch=condition_on_batch, n_hidden=16
    ).train(max_steps=3, **QUIET)
    assert model.module.anchor.n_components >= 2
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.parametrize("n_latent", [1, 2, 3])
def test_too_few_dimensions_take_fewer_programs_with_one_sentence(counts_adata, caplog, n_latent):
    BetaVAE.setup_anndata(counts_adata)
    with caplog.at_level(logging.INFO, logger="scbetavae"):
        model = BetaVAE(counts_adata, anchor="programs", n_latent=n_latent, n_hidden=16).train(max_steps=2, **QUIET)
    assert sum(f"n_latent={n_latent}" in record.getMessage() for record in caplog.records) == 1
    assert model.module.anchor.n_components == n_latent
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_number_of_programs_that_was_asked_for_is_kept(planted):
    logs, groups = log_normalize(planted[0]), np.zeros(N_CELLS, dtype=int)
    found, wanted = find_programs(logs, groups, 10, n_components=7)
    assert found.weights.shape[1] == wanted == 7


def degenerate(name):
    rng = np.random.default_rng(0)
    if name == "two cells":
        return rng.poisson(2.0, (2, 30))
    if name == "one cell":
        return rng.poisson(2.0, (1, 30))
    if name == "alike":
        return np.full((40, 30), 3)
    if name == "constant genes":
        return np.hstack([np.full((40, 20), 3), rng.poisson(2.0, (40, 10))])
    if name == "empty genes":
        return np.hstack([np.zeros((40, 20), dtype=int), rng.poisson(2.0, (40, 10)) + 1])
    return np.outer(rng.integers(1, 5, 40), np.arange(1, 31)) if name == "rank 1" else rng.poisson(2.0, (40, 1)) + 1


NAMES = ["one cell", "two cells", "alike", "constant genes", "empty genes", "rank 1", "one gene"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("most", [1, 10])
def test_degenerate_cells_have_fewer_programs_or_none(name, most):
    logs = log_normalize(sparse.csr_matrix(degenerate(name).astype(float)))
    for groups in (np.zeros(logs.shape[0], dtype=int), np.arange(logs.shape[0]) % 2):
        found, _ = find_programs(logs, groups, most)
        values = values_of(found, logs, groups)
        assert values.shape[1] <= most
        assert np.isfinite(values).all()
        if name in ("alike", "one cell"):
            assert values.shape[1] == 0
