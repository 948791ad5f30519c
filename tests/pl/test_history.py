"""Training curves: the picture shows the frame, and the frame holds the history."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from hypothesis import given
from hypothesis import strategies as st

import scbetavae
from scbetavae.pl._history import _frame


def make_adata(history, key="betavae"):
    return AnnData(np.ones((2, 2), dtype=np.float32), uns={key: {"history": history}})


@pytest.fixture
def history():
    epochs = pd.Index(np.arange(1, 5), name="epoch")
    return pd.DataFrame(
        {
            "beta": [0.0, 2.0, 4.0, 4.0],
            "objective_train": [400.0, 390.0, 385.0, 380.0],
            "nll_train": [400.0, 370.0, 355.0, 350.0],
            "nll_validation": [np.nan, 375.0, np.nan, 360.0],
            "kl_train": [3.0, 10.0, 8.0, 7.5],
            "active_dimensions": [10.0, 9.0, 9.0, 8.0],
            "active_dimensions_validation": [np.nan, 9.0, np.nan, 9.0],
            "lr": [1e-3, 1e-2, 1e-2, 1e-5],
            "dip_off_diagonal": [4.0, 3.0, 2.0, 1.0],
            "total_correlation_train": [1.0, 0.5, 0.25, 0.1],
            "my_own_quantity": [1.0, 2.0, 3.0, 4.0],
        },
        index=epochs,
    )


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def test_panels_in_order_with_units(history):
    figure = scbetavae.pl.history(make_adata(history))
    assert [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes] == [
        ("Objective", "nats per cell"),
        ("Negative log-likelihood", "nats per cell"),
        ("KL divergence from the prior", "nats per cell"),
        ("Weight of the regularizer", "beta"),
        ("Active dimensions", "latent dimensions"),
        ("Learning rate", "learning rate"),
        ("Off-diagonal covariance", "sum of squares"),
        ("Total correlation", "nats per cell"),
        ("My own quantity", "value"),
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}


def test_curves_are_the_history(history):
    axes = panels(scbetavae.pl.history(make_adata(history)))["Negative log-likelihood"]
    train, validation = axes.get_lines()
    np.testing.assert_array_equal(train.get_xydata(), np.column_stack([history.index, history["nll_train"]]))
    np.testing.assert_array_equal(validation.get_xydata(), [[2, 375.0], [4, 360.0]])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "validation"]
    assert train.get_color() != validation.get_color()


def test_quantity_without_splits_has_one_curve_and_no_legend(history):
    axes = panels(scbetavae.pl.history(make_adata(history)))["Weight of the regularizer"]
    assert len(axes.get_lines()) == 1
    assert axes.get_legend() is None


def test_every_row_of_the_frame_is_drawn(history):
    adata = make_adata(history)
    drawn = sum(len(line.get_xdata()) for axes in scbetavae.pl.history(adata).axes for line in axes.get_lines())
    assert drawn == len(_frame(adata)) == history.notna().to_numpy().sum()


def test_frame_takes_names_apart(history):
    frame = _frame(make_adata(history))
    assert list(frame.columns) == ["epoch", "quantity", "split", "value"]
    splits = frame.groupby("quantity")["split"].unique().map(sorted).to_dict()
    assert splits["nll"] == ["train", "validation"]
    assert splits["active_dimensions"] == ["train", "validation"]
    assert splits["dip_off_diagonal"] == [""]
    assert splits["total_correlation"] == ["train"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.text("abc_", min_size=1))
def test_any_numeric_column_comes_back(values, name):
    history = pd.DataFrame({name: values}, index=range(1, len(values) + 1))
    frame = _frame(make_adata(history))
    assert frame["value"].tolist() == values
    assert frame["epoch"].tolist() == list(range(1, len(values) + 1))
    assert frame["quantity"].unique().tolist() == [name]


def test_rows_within_an_epoch_keep_their_place(history, tmp_path):
    adata = make_adata(history.set_axis([0.5, 1.0, 1.5, 2.0]))
    adata.write_h5ad(tmp_path / "trained.h5ad")
    for trained in (adata, read_h5ad(tmp_path / "trained.h5ad")):
        frame = _frame(trained)
        assert frame.loc[frame["quantity"] == "beta", "epoch"].tolist() == [0.5, 1.0, 1.5, 2.0]
        train, validation = panels(scbetavae.pl.history(trained))["Negative log-likelihood"].get_lines()
        assert train.get_xdata().tolist() == [0.5, 1.0, 1.5, 2.0]
        assert validation.get_xdata().tolist() == [1.0, 2.0]


def test_text_columns_are_left_out(history):
    frame = _frame(make_adata(history.assign(note="a")))
    assert "note" not in set(frame["quantity"])


def test_another_key(history):
    figure = scbetavae.pl.history(make_adata(history, key="second"), key="second")
    assert "Objective" in panels(figure)


def test_one_epoch_shows_a_point(history):
    axes = panels(scbetavae.pl.history(make_adata(history.iloc[:1])))["Objective"]
    assert axes.get_lines()[0].get_marker() == "o"


def test_history_read_from_a_file(history, tmp_path):
    adata = make_adata(history)
    adata.write_h5ad(tmp_path / "trained.h5ad")
    again = _frame(read_h5ad(tmp_path / "trained.h5ad"))
    pd.testing.assert_frame_equal(again, _frame(adata))


def test_no_text_overlaps(history):
    figure = scbetavae.pl.history(make_adata(history))
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_notebook_shows_it(history):
    assert scbetavae.pl.history(make_adata(history))._repr_png_().startswith(b"\x89PNG")


def test_pyplot_and_settings_are_left_alone(history):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    scbetavae.pl.history(make_adata(history))
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_untrained():
    for uns in ({}, {"betavae": {"params": {"beta": 4.0}}}):
        with pytest.raises(KeyError, match="Train a model on this AnnData first"):
            scbetavae.pl.history(AnnData(uns=uns))


def test_history_without_numbers():
    with pytest.raises(ValueError, match="at least one epoch"):
        scbetavae.pl.history(make_adata(pd.DataFrame({"beta": [np.nan]}, index=[1])))
