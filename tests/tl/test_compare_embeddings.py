"""Several embeddings: each row is that of the embedding alone."""

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae
from scbetavae.tl import compare_embeddings, score_disentanglement

QUICK = {"n_permutations": 10, "n_bootstrap": 10}


@pytest.fixture
def embedded():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 150)
    obs = pd.DataFrame(
        {"cell type": pd.Categorical(np.array(["T/NK", "B", "M"])[label]), "age": rng.uniform(size=150)},
        index=[f"cell {i}" for i in range(150)],
    )
    noise = rng.normal(size=(150, 3))
    aligned = noise + 4.0 * label[:, None] * [1, 0, 0]
    return AnnData(obs=obs, obsm={"X_aligned": aligned, "X_noise": rng.normal(size=(150, 5))})


def test_each_embedding_is_scored_as_alone(embedded):
    frame = compare_embeddings(embedded, ["cell type", "age"], ["X_noise", "X_aligned"], seed=2, **QUICK)
    assert list(frame.columns[:2]) == ["embedding", "metric"]
    assert frame["embedding"].drop_duplicates().tolist() == ["X_noise", "X_aligned"]
    for key, part in frame.groupby("embedding"):
        alone = score_disentanglement(embedded, ["cell type", "age"], obsm_key=key, seed=2, **QUICK)
        pd.testing.assert_frame_equal(part.drop(columns="embedding").reset_index(drop=True), alone)
    mig = frame[(frame["metric"] == "mig") & (frame["covariate"] == "cell type")].set_index("embedding")["normalized"]
    assert mig["X_aligned"] > 0.7
    assert mig["X_noise"] < 0.1


def test_a_dimension_without_divergence_takes_no_part(embedded, write_latent):
    write_latent(embedded, "X_aligned", kl=[0.001, 0.5, 0.5])
    frame = compare_embeddings(embedded, "cell type", ["X_aligned", "X_noise"], metrics="mig", **QUICK)
    assert frame["value"].max() < 0.1
    dimensions = embedded.uns["betavae"]["embedding_comparison_dimensions"]
    assert dimensions.groupby("embedding")["active"].mean().round(2).to_dict() == {"X_aligned": 0.67, "X_noise": 1.0}


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_round_trip(embedded, tmp_path, kind):
    compare_embeddings(embedded, ["cell type", "age"], ["X_aligned", "X_noise"], metrics=["mig", "lms"], **QUICK)
    getattr(embedded, f"write_{kind}")(tmp_path / f"cells.{kind}")
    again = getattr(anndata, f"read_{kind}")(tmp_path / f"cells.{kind}")
    for name in ("", "_dimensions", "_covariates"):
        before, after = (a.uns["betavae"][f"embedding_comparison{name}"] for a in (embedded, again))
        pd.testing.assert_frame_equal(
            before.astype(object), after.reset_index(drop=True).astype(object), check_column_type=False
        )
    scbetavae.pl.embedding_comparison(again)
    scbetavae.pl.dimension_covariate(again, key="embedding_comparison", embedding="X_noise")


@pytest.mark.parametrize(
    ("keys", "arguments", "error", "word"),
    [
        ([], {}, ValueError, "at least one entry"),
        (["X_noise", "X_noise"], {}, ValueError, "each once"),
        (["X_noise", "X_alinged"], {}, KeyError, "Did you mean 'X_aligned'"),
        ("X_noise", {"metrics": "migg"}, ValueError, "Did you mean 'mig'"),
    ],
)
def test_mistakes(embedded, keys, arguments, error, word):
    with pytest.raises(error, match=word):
        compare_embeddings(embedded, "age", keys, **arguments)
    assert "betavae" not in embedded.uns


def test_a_late_mistake_leaves_no_trace(embedded):
    embedded.obsm["X_nan"] = np.full((150, 2), np.nan)
    with pytest.raises(ValueError, match="X_nan"):
        compare_embeddings(embedded, "age", ["X_noise", "X_nan"], **QUICK)
    assert "betavae" not in embedded.uns


def test_a_view_is_refused(embedded):
    with pytest.raises(ValueError, match="view"):
        compare_embeddings(embedded[:20], "age", ["X_noise"])
