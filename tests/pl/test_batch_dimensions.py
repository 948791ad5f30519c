"""Batch dimensions: points lie where the frame says, those chosen are marked, and the summary is the title."""

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.text import Text

import scbetavae
from scbetavae.pl._batch_dimensions import _frame

SUMMARY = "Without dimension 2, batch accuracy goes from 0.98 to 0.01, and 'cell type' keeps 99% of its accuracy, " * 3


def make_table(n_dims=5):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "dimension": range(n_dims),
            "active": True,
            "batch_given_conserved": rng.uniform(0, 0.1, n_dims),
            "batch_p_adjusted": 0.5,
            "conserved_given_batch": rng.uniform(0, 1.2, n_dims),
            "rank": rng.permutation(n_dims) + 1,
            "chosen": False,
        }
    )
    frame.loc[2, ["batch_given_conserved", "conserved_given_batch", "batch_p_adjusted", "chosen"]] = (
        0.6,
        0.02,
        0.0,
        True,
    )
    frame.loc[1, "batch_p_adjusted"] = 0.03
    frame.loc[4, ["active", "rank", "batch_given_conserved"]] = False, 0, np.nan
    return frame.astype({"chosen": bool, "active": bool, "rank": int})


@pytest.fixture
def table():
    return make_table()


@pytest.fixture
def adata(table):
    parameters = {"batch_key": "protocol", "conserve": "cell type", "summary": SUMMARY, "fdr": 0.05, "clustered": False}
    stored = {"batch_dimensions": table, "batch_dimensions_params": parameters}
    return AnnData(obs=pd.DataFrame(index=["a", "b"]), uns={"betavae": stored})


def drawn(axes):
    """Points by label of the legend: positions and whether they are filled."""
    points = {}
    for collection in axes.collections:
        faces = collection.get_facecolors()
        filled = [not same_color(face, "white") for face in faces] * (len(collection.get_offsets()) // len(faces))
        points[collection.get_label()] = (np.asarray(collection.get_offsets()), filled)
    return points


def test_points_lie_where_the_frame_says(table):
    points = drawn(scbetavae.pl.batch_dimensions(table))
    place = table[["conserved_given_batch", "batch_given_conserved"]]
    np.testing.assert_allclose(points["chosen to be zeroed"][0], place.loc[[2]])
    kept = table[table["active"] & ~table["chosen"]].sort_values("rank")
    np.testing.assert_allclose(points["kept"][0], place.loc[kept.index])
    assert points["kept"][1] == (kept["batch_p_adjusted"] <= 0.05).tolist()
    assert points["chosen to be zeroed"][1] == [True]


def test_every_active_dimension_has_its_number_above_its_point(table):
    axes = scbetavae.pl.batch_dimensions(table)
    assert sorted(text.get_text() for text in axes.texts) == ["0", "1", "2", "3"]
    for text in axes.texts:
        row = table.loc[int(text.get_text())]
        assert text.get_position()[0] == pytest.approx(row["conserved_given_batch"])
        assert text.get_position()[1] > row["batch_given_conserved"]


def test_numbers_of_points_in_one_place_are_apart():
    table = make_table(12).assign(batch_given_conserved=0.01, conserved_given_batch=0.3, active=True)
    axes = scbetavae.pl.batch_dimensions(table)
    axes.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the leader
    assert len(boxes) == 12
    assert not any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[:i])


def test_the_diagonal_and_axes_of_the_same_scale(table):
    axes = scbetavae.pl.batch_dimensions(table)
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_aspect() == 1


def test_names_and_summary(adata):
    axes = scbetavae.pl.batch_dimensions(adata)
    assert axes.get_title(loc="left").replace("\n", " ") == SUMMARY.strip()
    assert axes.get_xlabel() == "I(z; cell type given protocol) (nats)"
    assert axes.get_ylabel() == "I(z; protocol given cell type) (nats)"
    axes.figure.draw_without_rendering()
    title, figure = axes._left_title.get_window_extent(), axes.figure.bbox
    assert title.x1 <= figure.x1
    assert title.y1 <= figure.y1


def test_after_reading_back(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(_frame(back), _frame(adata), check_dtype=False)


def test_the_frame(table, adata):
    frame = _frame(adata)
    assert frame["rank"].is_monotonic_increasing
    assert sorted(frame["dimension"]) == [0, 1, 2, 3]
    adata.uns["betavae"]["batch_dimensions_params"]["fdr"] = 0.01
    assert _frame(adata)["significant"].sum() == 1
    assert frame["significant"].sum() == 2


def test_axes_of_the_users_choice(table):
    axes = Figure().subplots()
    assert scbetavae.pl.batch_dimensions(table, ax=axes) is axes


def test_none_chosen(table):
    assert set(drawn(scbetavae.pl.batch_dimensions(table.assign(chosen=False)))) == {"kept"}


def test_nothing_to_draw(table, adata):
    with pytest.raises(ValueError, match="active"):
        scbetavae.pl.batch_dimensions(table.assign(active=False))
    with pytest.raises(KeyError, match="find_batch_dimensions"):
        scbetavae.pl.batch_dimensions(adata, key="batch_dimension")
    with pytest.raises(KeyError, match="find_batch_dimensions"):
        scbetavae.pl.batch_dimensions(table.drop(columns="rank"))


def test_a_single_panel_shows_itself_in_a_notebook():
    from io import BytesIO

    from PIL import Image

    from scbetavae.pl._figure import single_panel

    axes = single_panel(3.0, 2.0)
    axes.set_title("a title that is much wider than the panel " * 3)
    axes.plot([0, 1], [0, 1])
    picture = Image.open(BytesIO(axes._repr_png_()))
    assert picture.width > 300  # nothing of the title is cut off
    assert axes.figure.axes == [axes]
