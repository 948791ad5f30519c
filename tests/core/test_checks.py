"""Argument checks: what passes, what is refused, and that the message names the argument and the nearest choice."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scbetavae._core import checks, palette, text


def test_lists_and_counts_in_sentences():
    assert text.listed("abc") == "'a', 'b', 'c'"
    assert text.listed(range(10), 2) == "0, 1 and 8 more"
    assert text.listed([]) == "nothing"
    assert (text.counted(1, "cell"), text.counted(2, "cell"), text.counted(2, "batch", "batches")) == (
        "1 cell",
        "2 cells",
        "2 batches",
    )


def test_the_nearest_name_is_found_whatever_its_case():
    assert text.did_you_mean("Mgi", ["MIG", "sap"]) == " Did you mean 'MIG'?"
    assert text.did_you_mean("zzz", ["MIG", "sap"]) == ""


def test_choice():
    checks.check_choice("a", ["a", None], "option")
    checks.check_choice(None, ["a", None], "option")
    with pytest.raises(
        ValueError, match=r"option='steppwise' is not allowed\. Did you mean 'stepwise'\? Choose from 'stepwise'"
    ):
        checks.check_choice("steppwise", ["stepwise"], "option")
    with pytest.raises(ValueError, match="option=1"):
        checks.check_choice(1, [True], "option")


def test_keys_and_arguments():
    checks.check_keys({"batch_key": "batch", "labels_key": None}, ["batch", None], "adata.obs")
    with pytest.raises(KeyError, match="Did you mean 'batch'"):
        checks.check_key("bacth", ["batch"], "batch_key", "adata.obs")
    checks.check_arguments(["a"], ["a"], "f")
    with pytest.raises(TypeError, match=r"f has no argument 'bta'\. Did you mean 'beta'"):
        checks.check_arguments(["bta"], ["beta"], "f")


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 6])
def test_whole_numbers_outside_bounds(value):
    with pytest.raises(ValueError, match=r"n=.*from 1 to 5"):
        checks.check_whole_number(value, "n", 1, 5)


def test_whole_numbers_within_bounds():
    assert [checks.check_whole_number(value, "n", 1, 5) for value in (1, np.int64(5))] == [1, 5]


@pytest.mark.parametrize(
    ("value", "ends"), [(0, "low"), (1, "high"), (0, "both"), (-0.1, ""), (1.1, ""), (np.nan, ""), (True, "")]
)
def test_numbers_outside_bounds(value, ends):
    with pytest.raises(ValueError, match="share="):
        checks.check_number(value, "share", 0, 1, open_=ends)


def test_numbers_within_bounds():
    assert checks.check_number(np.float32(0.5), "share", 0, 1) == 0.5
    assert checks.check_number(0, "share", 0, 1, open_="high") == 0.0
    with pytest.raises(ValueError, match="above 0"):
        checks.check_number(0, "rate", 0, open_="low")


def test_adata():
    adata = anndata.AnnData(np.ones((3, 2)))
    checks.check_adata(adata, key_added="scores")
    with pytest.raises(TypeError, match="ndarray"):
        checks.check_adata(adata.X)
    with pytest.raises(ValueError, match="view"):
        checks.check_adata(adata[:2])
    for name in ("", "a/b", 3):
        with pytest.raises(ValueError, match="key_added"):
            checks.check_adata(adata, key_added=name)


def test_dimensions_by_number_and_name():
    assert checks.check_dimensions([2, "batch"], 3, names=["batch", "b", "c"]) == [2, 0]
    assert checks.check_dimensions(np.int64(1), 3) == [1]
    for wrong in ([3], [-1], [True], [0, 0], [], [0.5]):
        with pytest.raises(ValueError, match="dimensions"):
            checks.check_dimensions(wrong, 3)
    with pytest.raises(KeyError, match="Did you mean 'batch'"):
        checks.check_dimensions("bacth", 3, names=["batch"])


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, pd.DataFrame])
def test_finite_matrix_of_any_kind(make):
    assert checks.finite_matrix(make(np.eye(3)), "codes").tolist() == np.eye(3).tolist()


def test_matrices_that_are_refused():
    with pytest.raises(TypeError, match="numbers"):
        checks.finite_matrix([["a"]], "codes")
    for shape in ((3,), (3, 0), (2, 2, 2)):
        with pytest.raises(ValueError, match="shape"):
            checks.finite_matrix(np.ones(shape), "codes")
    with pytest.raises(ValueError, match="1 cells, the first 'b'"):
        checks.finite_matrix([[0.0], [np.inf]], "codes", rows=["a", "b"])


def test_no_two_series_share_a_color():
    for number in (1, 7, 8, 30):
        assert len(set(palette.colors(number))) == number
