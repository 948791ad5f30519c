"""A staged copy: everything that a block writes, or nothing."""

import anndata
import numpy as np
import pytest

from scbetavae._core.staging import staged


@pytest.fixture
def adata():
    cells = anndata.AnnData(np.ones((4, 2)))
    cells.obs["batch"] = ["a", "a", "b", "b"]
    cells.obsm["X_pca"] = np.eye(4)[:, :2]
    cells.uns["betavae"] = {"params": {"beta": 1.0}}
    return cells


def write(copy):
    copy.obs["clusters"] = "0"
    copy.obsm["X_betavae"] = np.zeros((4, 1))
    copy.uns["betavae"] = copy.uns["betavae"] | {"scores": {"mig": 1.0}}


def test_everything_is_committed(adata):
    pca = adata.obsm["X_pca"]
    with staged(adata, obs={"batch": ["x"] * 4}, obsm={"X_latent": np.ones((4, 1))}) as copy:
        assert copy.obs["batch"].tolist() == ["x"] * 4
        write(copy)
    assert adata.obs["batch"].tolist() == ["a", "a", "b", "b"]
    assert set(adata.obs) == {"batch", "clusters"}
    assert set(adata.obsm) == {"X_pca", "X_betavae", "X_latent"}
    assert np.array_equal(adata.obsm["X_pca"], pca)
    assert set(adata.uns["betavae"]) == {"params", "scores"}


def test_nothing_is_committed_on_an_error(adata):
    def fail():
        with staged(adata, obsm={"X_latent": np.ones((4, 1))}) as copy:
            write(copy)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (set(adata.obs), set(adata.obsm), set(adata.uns["betavae"])) == ({"batch"}, {"X_pca"}, {"params"})


def test_blocks_can_be_nested(adata):
    with staged(adata) as outer, staged(outer) as inner:
        write(inner)
    assert "X_betavae" in adata.obsm
    assert "scores" in adata.uns["betavae"]
