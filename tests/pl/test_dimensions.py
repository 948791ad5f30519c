"""Cards as figures: every card is drawn, in its order, and a large one has its classes, genes and gene sets."""

from io import BytesIO

import pytest
from matplotlib.figure import Figure

import scbetavae
from scbetavae.model import BetaVAE


@pytest.fixture(scope="module")
def adata():
    adata = scbetavae.datasets.simulate_counts(300, 80, n_cell_types=3, seed=0)
    adata.var["symbol"] = [f"symbol_{i}" for i in range(80)]
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = BetaVAE(adata, n_latent=4).train(max_steps=100, enable_progress_bar=False, accelerator="cpu")
    sets = {"set a": [f"symbol_{i}" for i in range(10)], "set b": [f"symbol_{i}" for i in range(10, 20)]}
    model.describe_dimensions(gene_sets=sets, gene_symbols="symbol", names={0: r"my <dimension> $\frac{$"})
    return adata


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_one_row_per_card_in_order(adata):
    cards = adata.uns["betavae"]["dimensions"].sort_values("order")
    figure = scbetavae.pl.dimensions(adata)
    drawn = [text for text in texts(figure) if text.isdigit()]
    assert drawn == cards["dimension"].astype(str).tolist()
    assert any("symbol_" in text for text in texts(figure))


def test_a_large_card(adata):
    figure = scbetavae.pl.dimension(adata, r"my <dimension> $\frac{$")
    assert isinstance(figure, Figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert any(title.startswith("cells by") for title in titles)
    assert {"genes along the dimension", "gene sets"} <= set(titles)
    genes = next(axes for axes in figure.axes if axes.get_title() == "genes along the dimension")
    assert all(label.get_text().startswith("symbol_") for label in genes.get_yticklabels())


def test_other_plots_use_the_names(adata):
    figure = scbetavae.pl.latent_summary(adata)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert r"0 my <dimension> $\frac{$" in labels


def test_dimensions_without_a_card(adata):
    with pytest.raises(ValueError, match="numbered from 0"):
        scbetavae.pl.dimension(adata, 17)
    with pytest.raises(KeyError, match="names no dimension"):
        scbetavae.pl.dimension(adata, "interferon")


def test_names_where_a_condition_is_predicted(adata):
    scbetavae.tl.predict_condition(adata, "batch", n_permutations=2, n_bootstrap=2)
    axes = scbetavae.pl.condition_prediction(adata)
    assert any(label.get_text().startswith("0 my <dimension>") for label in axes.get_yticklabels())


def test_dollar_signs_are_no_mathematics(adata):
    for figure in (
        scbetavae.pl.dimensions(adata),
        scbetavae.pl.dimension(adata, 0),
        scbetavae.pl.latent_summary(adata),
    ):
        figure.savefig(BytesIO(), format="png")
