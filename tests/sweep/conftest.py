"""Toy cells, a finished sweep of them, and what has to be the same when it is done again."""

import runpy
from pathlib import Path

import pandas as pd
import pytest

TOY = runpy.run_path(str(Path(__file__).with_name("toy_sweep.py")))
COSTS = ["seconds", "scoring_seconds", "peak_memory"]


@pytest.fixture
def cells():
    return TOY["make_cells"]()


@pytest.fixture(scope="session")
def quick():
    """Arguments of the toy sweep, without its folder."""
    return TOY["QUICK"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, quick):
    """Folder and table of an uninterrupted sweep."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    return folder, TOY["sweep"](TOY["make_cells"](), out_dir=folder, **quick)


@pytest.fixture(scope="session")
def assert_same():
    """Two tables are the same to the last digit, costs aside."""

    def check(first, second):
        first, second = (
            table[~table["metric"].isin(COSTS)].reset_index(drop=True).astype({"seed": int})
            for table in (first, second)
        )
        pd.testing.assert_frame_equal(first, second, check_exact=True)

    return check
