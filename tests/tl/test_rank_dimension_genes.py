"""Rankings of genes: differences of ends, in order, within the data, and ready for other packages."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbetavae.tl import rank_dimension_genes

COLUMNS = ["dimension", "direction", "rank", "gene", "log_fold_change", "standard_error", "score", "expression"]


def make_frame(slopes, *, support=(1, 3), n_steps=5, error=0.1, expression=1.0):
    """A traversal of straight responses: slopes of shape (n_dims, n_genes), a step one unit of the code."""
    slopes = np.asarray(slopes, dtype=float)
    n_dims, n_genes = slopes.shape
    values = np.arange(n_steps) - n_steps // 2
    frame = pd.DataFrame(
        {
            "dimension": np.repeat(np.arange(n_dims), n_steps * n_genes),
            "step": np.tile(np.repeat(np.arange(n_steps), n_genes), n_dims),
            "value": np.tile(np.repeat(values.astype(float), n_genes), n_dims),
            "gene": pd.Categorical([f"g{i}" for i in range(n_genes)] * n_steps * n_dims),
        }
    )
    frame["log_fold_change"] = (slopes[:, None, :] * values[None, :, None]).ravel()
    frame["standard_error"], frame["expression"] = error, expression
    frame["in_range"] = frame["step"].between(*support)
    return frame


@settings(max_examples=40, deadline=None, database=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.integers(1, 6))
def test_rankings_follow_the_change_between_the_ends(slopes, n_genes):
    ranked = rank_dimension_genes(make_frame([slopes]), n_genes=n_genes)
    for direction, sign in (("up", 1), ("down", -1)):
        part = ranked[ranked["direction"] == direction]
        expected = np.sort([sign * 2 * slope for slope in slopes if sign * slope > 0])[::-1][:n_genes]
        np.testing.assert_allclose(sign * part["log_fold_change"], expected)
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        for row in part.itertuples():
            assert row.log_fold_change == pytest.approx(2 * slopes[int(row.gene[1:])])


def test_frame():
    ranked = rank_dimension_genes(make_frame([[1.0, -2.0, 0.5], [0.0, 1.0, 0.0]]))
    assert list(ranked.columns) == [*COLUMNS, "value_low", "value_high"]
    assert ranked["gene"].tolist() == ["g0", "g2", "g1", "g1"]
    assert ranked["dimension"].tolist() == [0, 0, 0, 1]
    assert ranked["direction"].tolist() == ["up", "up", "down", "up"]
    np.testing.assert_allclose(ranked["standard_error"], 0.2)
    np.testing.assert_allclose(ranked["score"], ranked["log_fold_change"] / 0.2)
    assert set(ranked["value_low"]) == {-1.0}
    assert set(ranked["value_high"]) == {1.0}


def test_steps_without_cells_take_part_only_when_asked():
    frame = make_frame([[1.0, -1.0]], support=(1, 3))
    off = frame["step"] == 4
    frame.loc[off, "log_fold_change"] = -frame.loc[off, "log_fold_change"] * 10
    inside = rank_dimension_genes(frame)
    assert inside.set_index("gene").loc["g0", "direction"] == "up"
    outside = rank_dimension_genes(frame, in_range_only=False)
    assert outside.set_index("gene").loc["g0", "direction"] == "down"


def test_genes_that_are_hardly_there_are_left_out():
    frame = make_frame([[3.0, 2.0, -1.0]])
    frame.loc[frame["gene"] == "g0", "expression"] = 0.05
    frame.loc[(frame["gene"] == "g0") & (frame["step"] == 4), "expression"] = 9.0  # off the support
    assert rank_dimension_genes(frame)["gene"].tolist() == ["g1", "g2"]
    assert rank_dimension_genes(frame, min_expression=0)["gene"].tolist() == ["g0", "g1", "g2"]


def test_ranking_by_score():
    frame = make_frame([[3.0, 2.0]])
    frame.loc[frame["gene"] == "g0", "standard_error"] = 1.0
    assert rank_dimension_genes(frame)["gene"].tolist() == ["g0", "g1"]
    assert rank_dimension_genes(frame, rank_by="score")["gene"].tolist() == ["g1", "g0"]
    with pytest.raises(ValueError, match="one point"):
        rank_dimension_genes(make_frame([[1.0]], error=np.nan), rank_by="score")


def test_all_genes_make_a_matrix():
    slopes = np.random.default_rng(0).normal(size=(3, 6))
    ranked = rank_dimension_genes(make_frame(slopes), n_genes=None)
    matrix = ranked.pivot(index="dimension", columns="gene", values="log_fold_change")
    np.testing.assert_allclose(matrix, 2 * slopes)


def test_order_of_rows_does_not_matter():
    frame = make_frame(np.random.default_rng(0).normal(size=(3, 6)))
    shuffled = frame.sample(frac=1.0, random_state=0)
    pd.testing.assert_frame_equal(rank_dimension_genes(shuffled), rank_dimension_genes(frame))


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_storage_survives(kind, tmp_path):
    frame = make_frame(np.random.default_rng(0).normal(size=(2, 6)))
    adata = anndata.AnnData(np.ones((3, 6), dtype=np.float32), uns={"betavae": {"traversal": frame, "other": 1}})
    ranked = rank_dimension_genes(adata)
    assert adata.uns["betavae"]["other"] == 1
    path = tmp_path / f"data.{kind}"
    getattr(adata, f"write_{kind}")(path)
    again = {"h5ad": anndata.read_h5ad, "zarr": anndata.read_zarr}[kind](path)
    stored = again.uns["betavae"]["dimension_genes"].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored, ranked, check_dtype=False, check_index_type=False)
    pd.testing.assert_frame_equal(rank_dimension_genes(again, key_added="second"), ranked)


def test_dimensions_without_two_steps(caplog):
    frame = make_frame([[1.0, -1.0], [1.0, -1.0]])
    frame.loc[(frame["dimension"] == 0) & (frame["step"] != 2), "in_range"] = False
    assert rank_dimension_genes(frame)["dimension"].unique().tolist() == [1]
    assert "Dimensions [0] have fewer than two steps" in caplog.text
    with pytest.raises(ValueError, match='scale="quantile"'):
        rank_dimension_genes(frame[frame["dimension"] == 0])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"data": [1]}, TypeError, "takes an AnnData"),
        ({"data": anndata.AnnData(np.ones((2, 2), dtype=np.float32))}, KeyError, r"model\.traverse"),
        ({"data": pd.DataFrame({"dimension": [1]})}, KeyError, "no column 'step'"),
        ({"n_genes": 0}, ValueError, "n_genes=0"),
        ({"rank_by": "p"}, ValueError, "rank_by='p'"),
        ({"min_expression": -1}, ValueError, "min_expression=-1"),
    ],
)
def test_mistakes(kwargs, error, message):
    with pytest.raises(error, match=message):
        rank_dimension_genes(**{"data": make_frame([[1.0]]), **kwargs})


def test_mistakes_in_adata_leave_nothing_behind():
    stored = {"traversal": make_frame([[1.0]]), "params": {"beta": 4.0}}
    adata = anndata.AnnData(np.ones((2, 2), dtype=np.float32), uns={"betavae": stored})
    with pytest.raises(KeyError, match="Did you mean 'traversal'"):
        rank_dimension_genes(adata, key="traversals")
    with pytest.raises(ValueError, match="key_added"):
        rank_dimension_genes(adata, key_added="a/b")
    with pytest.raises(ValueError, match="n_genes"):
        rank_dimension_genes(adata, n_genes=-1)
    assert set(adata.uns["betavae"]) == {"traversal", "params"}
