import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from scbetavae.train import _components
from scbetavae.train._components import independent_components, log_normalize, parallel_analysis

ONE_GROUP = np.zeros(900, dtype=int)


def planted(rng, n_cells=900, n_genes=60):
    """Three independent sources that are not normal, mixed with norms 3 : 2 : 1, in little noise."""
    sources = np.column_stack([rng.random(n_cells) < 0.5, rng.exponential(size=n_cells), rng.random(n_cells) < 0.2])
    sources = (sources - sources.mean(axis=0)) / sources.std(axis=0)
    mixing = np.linalg.qr(rng.normal(size=(n_genes, 3)))[0] * [3.0, 2.0, 1.0]
    return sources, sparse.csr_matrix(sources @ mixing.T + 0.02 * rng.normal(size=(n_cells, n_genes)) + 5.0)


def test_planted_sources_come_back_in_order_with_sign_and_unit_variance():
    sources, logs = planted(np.random.default_rng(0))
    found = independent_components(logs, ONE_GROUP, 10)
    values = found.of(logs, ONE_GROUP)
    assert values.shape == (900, 3)
    correlation = np.corrcoef(values, sources, rowvar=False)[:3, 3:]
    assert (np.abs(np.diag(correlation)) > 0.98).all()
    assert (np.mean(values**3, axis=0) > 0).all()
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(values.var(axis=0), 1, rtol=1e-6)
    assert (found.stability > 0.95).all()


def test_the_same_cells_give_the_same_components_for_any_random_state():
    _, logs = planted(np.random.default_rng(1))
    np.random.seed(0)  # noqa: NPY002 - the state that must not matter
    first = independent_components(logs, ONE_GROUP, 10)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    second = independent_components(logs, ONE_GROUP, 10)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    np.random.seed(0)  # noqa: NPY002
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_values_are_those_of_principal_components_turned():
    _, logs = planted(np.random.default_rng(2))
    values = independent_components(logs, ONE_GROUP, 10, n_components=3).of(logs, ONE_GROUP)
    dense = logs.toarray() - logs.toarray().mean(axis=0)
    left = np.linalg.svd(dense, full_matrices=False)[0][:, :3]
    # The same three-dimensional space: its projection leaves the values as they are.
    np.testing.assert_allclose(left @ (left.T @ values), values, atol=1e-6)


@pytest.mark.parametrize("n_factors", [3, 5])
def test_parallel_analysis_counts_factors(n_factors):
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(400, n_factors)) @ rng.normal(size=(n_factors, 80))
    logs = sparse.csr_matrix(factors + rng.normal(size=(400, 80)))
    groups = np.zeros(400, dtype=int)
    assert parallel_analysis(logs, groups, 20) == n_factors
    assert parallel_analysis(logs, groups, n_factors - 1) == n_factors - 1


def test_parallel_analysis_of_noise_gives_two():
    logs = sparse.csr_matrix(np.random.default_rng(4).normal(size=(400, 80)))
    assert parallel_analysis(logs, np.zeros(400, dtype=int), 20) == 2


def test_components_are_centered_within_groups_and_do_not_hold_them():
    rng = np.random.default_rng(5)
    _, logs = planted(rng)
    groups = rng.integers(2, size=900)
    shifted = sparse.csr_matrix(logs.toarray() + 4.0 * groups[:, None] * rng.normal(size=60))
    values = independent_components(shifted, groups, 10).of(shifted, groups)
    assert values.shape[1] == 3
    for group in (0, 1):
        np.testing.assert_allclose(values[groups == group].mean(axis=0), 0, atol=1e-8)
    # One group instead: a component holds the shift.
    together = independent_components(shifted, ONE_GROUP, 10, n_components=4).of(shifted, ONE_GROUP)
    assert np.abs(np.corrcoef(together, groups, rowvar=False)[-1, :-1]).max() > 0.95


def test_normal_components_are_unstable_and_never_warn():
    rng = np.random.default_rng(6)
    logs = sparse.csr_matrix(rng.normal(size=(500, 6)) @ rng.normal(size=(6, 50)) + 0.1 * rng.normal(size=(500, 50)))
    found = independent_components(logs, np.zeros(500, dtype=int), 6)
    assert found.weights.shape == (50, 6)
    assert found.stability.mean() < 0.8
    assert ((found.stability >= 0) & (found.stability <= 1)).all()


@pytest.mark.parametrize(
    ("matrix", "n_components"),
    [
        (np.ones((40, 30)), 0),  # all cells alike
        (np.ones((5, 3)), 0),
        (np.zeros((40, 30)), 0),
        (np.ones((1, 30)), 0),  # one cell
        (np.arange(40.0)[:, None] * np.ones((1, 30)), 1),  # rank 1
        (np.random.default_rng(0).random((40, 1)), 1),  # one gene
        (np.random.default_rng(0).random((3, 30)), 2),  # three cells span a plane
    ],
)
def test_degenerate_cells_give_fewer_components_or_none(matrix, n_components):
    found = independent_components(sparse.csr_matrix(matrix), np.zeros(len(matrix), dtype=int), 10)
    assert found.weights.shape == (matrix.shape[1], n_components)
    assert np.isfinite(found.of(sparse.csr_matrix(matrix), np.zeros(len(matrix), dtype=int))).all()


def test_log_normalization_is_that_of_scanpy(counts_adata):
    expected = AnnData(counts_adata.X.copy())
    sc.pp.normalize_total(expected, target_sum=1e4)
    sc.pp.log1p(expected)
    np.testing.assert_allclose(log_normalize(counts_adata.X).toarray(), expected.X.toarray(), rtol=1e-5)


def test_restarts_that_miss_a_factor_are_outvoted(monkeypatch):
    """The first and every seventh restart mix two components; order and sign differ in all of them."""
    rng = np.random.default_rng(0)
    half = np.sqrt(0.5)
    mixed = np.array([[half, -half, 0, 0], [half, half, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    def restart(_whitened, seed):
        found = mixed if seed % 7 == 0 else np.eye(4)
        return found[:, rng.permutation(4)] * rng.choice([-1, 1], 4)

    monkeypatch.setattr(_components, "_rotate", restart)
    rotation = _components._consensus_rotation(rng.normal(size=(50, 4)), seed=0)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(4), atol=1e-12)
    assert np.abs(rotation).max(axis=0).min() > 0.98
