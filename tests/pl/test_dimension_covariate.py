"""What dimensions encode: rows in the order of what they encode, colors and signs those of the table."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae
from scbetavae.metrics import dimension_covariate_table

LABELS = np.array(["CD8+/CD45RA+ Naive Cytotoxic", "B", "M"])


@pytest.fixture(scope="module")
def table():
    """Dimension 0 noise, 1 collapsed, 2 age falling, 3 the class M, 4 the batch."""
    rng = np.random.default_rng(0)
    n_cells = 600
    label, batch, age = rng.integers(0, 3, n_cells), rng.integers(0, 2, n_cells), rng.uniform(size=n_cells)
    codes = rng.normal(size=(n_cells, 5))
    codes[:, 1] *= 1e-4
    codes[:, 2] -= 8.0 * age
    codes[:, 3] += 6.0 * (label == 2)
    codes[:, 4] += 6.0 * batch
    factors = pd.DataFrame({"batch": np.where(batch, "b1", "b0"), "cell type": LABELS[label], "age": age})
    return dimension_covariate_table(codes, factors)


def test_panels_columns_and_rows(table):
    figure = scbetavae.pl.dimension_covariate(table)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["batch", "cell type", "age"]
    columns = [[label.get_text() for label in axes.get_xticklabels()] for axes in panels]
    assert columns == [["b0", "b1"], sorted(LABELS), [""]]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["4", "3", "2", "0", "inactive 1"]
    assert bar.get_ylabel() == "information / entropy"


def test_colors_and_signs_are_those_of_the_table(table):
    figure = scbetavae.pl.dimension_covariate(table)
    axes = figure.axes[1]
    values = axes.collections[0].get_array()
    classes = sorted(LABELS)
    cell = table[(table["dimension"] == 3) & (table["class"] == "M")].iloc[0]
    assert values[1, classes.index("M")] == pytest.approx(cell["normalized"])
    assert values.mask[4].all()
    signs = {(text.get_position()[0] - 0.5, text.get_position()[1] - 0.5): text.get_text() for text in axes.texts}
    assert signs[classes.index("M"), 1] == "+"
    (age,) = figure.axes[2].texts
    assert age.get_text() == "−"
    assert age.get_position() == (0.5, 2.5)
    assert axes.collections[0].get_clim()[0] == 0


def test_frame_says_what_each_dimension_encodes(table):
    frame = scbetavae.pl.dimension_covariate_frame(table)
    encodes = frame.drop_duplicates("dimension").set_index("dimension")["encodes"].to_dict()
    assert encodes[2] == "age"
    assert encodes[3] == "cell type: M"
    assert encodes[4].startswith("batch: b")
    assert encodes[0] == ""
    assert encodes[1] == ""
    assert list(encodes) == [4, 3, 2, 0, 1]
    assert len(frame) == 5 * 6


def test_many_classes_take_one_column():
    rng = np.random.default_rng(0)
    donor = np.array([f"d{i}" for i in range(30)])[rng.integers(0, 30, 600)]
    table = dimension_covariate_table(rng.normal(size=(600, 2)), pd.DataFrame({"donor": donor}))
    figure = scbetavae.pl.dimension_covariate(table)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["30 classes"]
    assert not figure.axes[0].texts


def test_one_class_and_one_dimension():
    table = dimension_covariate_table(np.arange(9.0)[:, None], pd.DataFrame({"same": ["x"] * 9}))
    figure = scbetavae.pl.dimension_covariate(table)
    assert figure.axes[0].collections[0].get_array().mask.all()


def test_one_embedding_of_several(table):
    both = pd.concat([table.assign(embedding="X_a"), table.query("dimension < 2").assign(embedding="X_b")])
    adata = AnnData(uns={"betavae": {"embedding_comparison_dimensions": both, "disentanglement_dimensions": table}})
    frame = scbetavae.pl.dimension_covariate_frame(adata, key="embedding_comparison", embedding="X_b")
    assert set(frame["dimension"]) == {0, 1}
    pd.testing.assert_frame_equal(
        scbetavae.pl.dimension_covariate_frame(adata), scbetavae.pl.dimension_covariate_frame(table)
    )
    with pytest.raises(ValueError, match="embedding='X_a'"):
        scbetavae.pl.dimension_covariate(adata, key="embedding_comparison")
    with pytest.raises(KeyError, match="'X_c' is not in the table"):
        scbetavae.pl.dimension_covariate(adata, key="embedding_comparison", embedding="X_c")
    with pytest.raises(KeyError, match="Leave it out"):
        scbetavae.pl.dimension_covariate(table, embedding="X_a")


def test_no_text_overlaps_and_pyplot_is_left_alone(table):
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    figure = scbetavae.pl.dimension_covariate(table)
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_mistakes(table):
    with pytest.raises(KeyError, match=r"tl\.score_disentanglement"):
        scbetavae.pl.dimension_covariate(AnnData())
    with pytest.raises(KeyError, match="no column 'direction'"):
        scbetavae.pl.dimension_covariate(table.drop(columns="direction"))
    with pytest.raises(ValueError, match="no rows"):
        scbetavae.pl.dimension_covariate(table.iloc[:0])
