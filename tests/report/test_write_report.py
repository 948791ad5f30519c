"""The page: complete, self-contained, escaped, made from a file alone; and in a browser its sliders move."""

import json
import re
import shutil
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi

import scbetavae
from scbetavae.model import BetaVAE
from scbetavae.report import write_report

MARKUP = "<script>alert(1)</script>"
QUOTES = "\"'&</script><b>"


@pytest.fixture(scope="module")
def model():
    """A model whose genes, classes and dimensions have markup as names."""
    model_adata = scbetavae.datasets.pbmc68k(planted_batches=2)[:, :300].copy()
    labels = model_adata.obs["bulk_labels"].astype(str)
    model_adata.obs["type"] = labels.replace({"CD19+ B": MARKUP}).astype("category")
    model_adata.var_names = [
        f"{name}{MARKUP}" if i % 3 else f"{name}{QUOTES}" for i, name in enumerate(model_adata.var_names)
    ]
    scvi.settings.seed = 0  # the same model in any order of the tests: removal warns with some
    BetaVAE.setup_anndata(model_adata, batch_key="batch", labels_key="type")
    model = BetaVAE(model_adata, n_latent=5).train(max_steps=200, enable_progress_bar=False, accelerator="cpu")
    model.score_disentanglement(["batch", "type"], metrics=["mig", "lms"], n_permutations=5, n_bootstrap=5)
    model.zero_batch_dimensions(n_bootstrap=5)
    sets = {f"set {MARKUP}": list(model_adata.var_names[:10]), "other": list(model_adata.var_names[10:20])}
    model.describe_dimensions(gene_sets=sets, names={0: f"mine {MARKUP}"})
    model_adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(700, 2))
    model_adata.obsm["X_umap_zeroed"] = model_adata.obsm["X_umap"]
    return model


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    return model.write_report(tmp_path_factory.mktemp("report") / "report.html", title=f"Title {MARKUP}")


def test_every_part_is_there(page):
    text = page.read_text(encoding="utf-8")
    for heading in ("Cells", "Dimensions", "What dimensions encode", "Batch removal", "Training", "Methods"):
        assert f">{heading}</h2>" in text
    assert text.count('class="card') >= 1
    assert "setup_anndata(adata, batch_key=" in text
    assert "Lopez et al. 2018" in text
    pictures = re.findall(r"<img[^>]*>", text)
    assert len(pictures) >= 4
    assert all(re.search(r'alt="[^"]{20,}"', picture) and 'src="data:image/png' in picture for picture in pictures)


def test_nothing_comes_from_the_network(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "@import" not in text
    assert "url(" not in text


def test_markup_in_names_is_text(page):
    text = page.read_text(encoding="utf-8")
    assert MARKUP not in text
    assert "<b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    block = re.search(r'<script id="responses" type="application/json">(.*?)</script>', text, re.DOTALL).group(1)
    genes = [gene for response in json.loads(block).values() if response for gene in response["genes"]]
    assert any(MARKUP in gene for gene in genes)
    assert any(QUOTES in gene for gene in genes)


def test_made_from_a_file_by_another_process(model, page, tmp_path):
    model.adata.write_h5ad(tmp_path / "cells.h5ad")
    code = (
        "import anndata, scbetavae, sys; "
        f"scbetavae.report.write_report(anndata.read_h5ad({str(tmp_path / 'cells.h5ad')!r}), "
        f"{str(tmp_path / 'other.html')!r}, title={f'Title {MARKUP}'!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    cards = r'<article class="card.*?</article>'
    texts = [path.read_text(encoding="utf-8") for path in (page, tmp_path / "other.html")]
    assert re.findall(cards, texts[0], re.DOTALL) == re.findall(cards, texts[1], re.DOTALL)


def test_thirty_dimensions_are_under_six_megabytes(model, tmp_path):
    adata = model.adata.copy()
    stored = dict(adata.uns["betavae"])
    card = stored["dimensions"].iloc[[0]]
    stored["dimensions"] = pd.concat([card.assign(dimension=d, name=f"dim {d}") for d in range(30)], ignore_index=True)
    one = stored["traversal"][stored["traversal"]["dimension"] == stored["traversal"]["dimension"].iloc[0]]
    stored["traversal"] = pd.concat([one.assign(dimension=d) for d in range(30)], ignore_index=True)
    adata.uns["betavae"] = stored
    path = write_report(adata, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").count('<article class="card') == 30
    assert path.stat().st_size < 6e6


def test_missing_parts_are_left_out(tmp_path):
    adata = scbetavae.datasets.simulate_counts(50, 20, n_cell_types=2, seed=0)
    adata.uns["betavae"] = {}
    text = write_report(adata, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The dimensions were not described" in text
    assert "<img" not in text


def test_no_active_dimension_is_said_with_the_reason(model, tmp_path):
    adata = model.adata.copy()
    stored = dict(adata.uns["betavae"])
    stored["dimensions"] = stored["dimensions"].iloc[:0]
    stored["latent_summary_params"] = stored["latent_summary_params"] | {"collapse": "All dimensions collapsed."}
    adata.uns["betavae"] = stored
    text = write_report(adata, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No dimension is active, so there is nothing to describe. All dimensions collapsed." in text


def test_bad_targets_are_refused(model, tmp_path):
    for path, text in (
        (tmp_path / "report.pdf", "does not end with .html"),
        (tmp_path / "no" / "report.html", "does not exist"),
    ):
        with pytest.raises(ValueError, match=text):
            model.write_report(path)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        write_report(model.adata, tmp_path / "folder.html")
    with pytest.raises(TypeError, match="not an AnnData"):
        write_report(None, tmp_path / "report.html")
    with pytest.raises(KeyError, match="holds no results"):
        write_report(anndata.AnnData(np.ones((2, 2))), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_page_that_fails_leaves_the_earlier_one(model, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("earlier")

    def fail(_adata):
        raise RuntimeError

    monkeypatch.setattr("scbetavae.report._contents.versions", fail)
    with pytest.raises(RuntimeError):
        write_report(model.adata, path)
    assert path.read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def open_browser():
    """``open_browser(width, height)``: a headless Chromium; skips where there is none."""
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    opened = []

    def start(width, height):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        opened.append(browser)
        return browser

    yield start
    for browser in opened:
        browser.quit()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("width", "height"), [(500, 900), (1280, 900)], ids=["phone", "desktop"])
def test_in_a_browser(page, open_browser, width, height):
    browser = open_browser(width, height)
    browser.get(page.as_uri())
    card = browser.find_element("css selector", ".card .responses:not([hidden])")
    slider, output = (card.find_element("css selector", name) for name in ("input", "output"))
    before = output.text, [bar.get_attribute("style") for bar in card.find_elements("css selector", ".bar")]
    slider.send_keys("\ue012")  # arrow to the left
    after = output.text, [bar.get_attribute("style") for bar in card.find_elements("css selector", ".bar")]
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert MARKUP in browser.find_element("tag name", "h1").text
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    pictures = browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert pictures


@pytest.mark.parametrize(
    ("setup", "arguments"),
    [
        (
            {"categorical_covariate_keys": ["phase"]},
            {"objective": "beta_tcvae", "objective_kwargs": {"estimator": "mws"}},
        ),
        ({"guided_keys": ["batch"]}, {"guided_kwargs": {"weight": 5.0}, "anchor_kwargs": {"n_components": 2}}),
    ],
)
def test_the_code_of_the_page_trains_the_same_model_again(setup, arguments):
    from scbetavae.report._contents import call

    adata = scbetavae.datasets.pbmc68k(planted_batches=2)[:, :100].copy()
    scvi.settings.seed = 3
    BetaVAE.setup_anndata(adata, labels_key="bulk_labels", **setup)
    model = BetaVAE(adata, n_latent=3, n_hidden=8, **arguments)
    model.train(max_steps=15, enable_progress_bar=False, accelerator="cpu")
    first = model.get_latent_representation()
    code = call(adata).replace("max_steps=15", "max_steps=15, enable_progress_bar=False, accelerator='cpu'")
    there = {"adata": adata.copy()}
    exec(code, there)
    np.testing.assert_allclose(there["model"].get_latent_representation(), first, atol=1e-4)
