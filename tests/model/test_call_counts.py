"""What one call passes through: few functions of ours in few files, and each argument is checked at most twice."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import scvi

import scbetavae
from scbetavae.model import BetaVAE

PACKAGE = str(Path(scbetavae.__file__).parent)
# The goals of the design. The path depends a little on what is found: whether batch remains, and where intervals are wide.
MOST_FUNCTIONS, MOST_FILES, MOST_CHECKS = 70, 15, 2


def record(call):
    """Functions of the package that a call enters, as (file, name), and the checks with the arguments that they saw."""
    entered, checks, alive = Counter(), Counter(), []

    def profile(frame, event, _argument):
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
            return
        entered[code.co_filename, code.co_qualname] += 1
        if code.co_name.startswith("check_") or code.co_filename.endswith("_core/checks.py"):
            values = [frame.f_locals[name] for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
            alive.append(values)  # so that no id is used twice
            checks[code.co_qualname, tuple(v if isinstance(v, (str, int)) else id(v) for v in values)] += 1

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered, checks


@pytest.fixture(scope="module")
def model():
    adata = scbetavae.datasets.simulate_counts(300, 60, n_cell_types=2, seed=0)
    scvi.settings.seed = 0  # the path depends on what is found
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    model = BetaVAE(adata, n_latent=4)
    model.train(max_steps=40, enable_progress_bar=False, accelerator="cpu")
    model.find_batch_dimensions(n_permutations=10)
    return model


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_removing_batch_after_a_search_is_short(model):
    model.zero_batch_dimensions(n_bootstrap=5)  # what is imported or cached by the first call is not counted
    entered, checks = record(lambda: model.zero_batch_dimensions(n_bootstrap=5))
    files = {file for file, _ in entered}
    assert len(entered) <= MOST_FUNCTIONS, sorted(f"{Path(f).name}:{name}" for f, name in entered)
    assert len(files) <= MOST_FILES, sorted(files)
    often = {name: count for name, count in checks.items() if count > MOST_CHECKS}
    assert not often


def test_the_counter_counts(model):
    entered, checks = record(lambda: [scbetavae._core.checks.as_list(None) for _ in range(3)])
    assert [name for _, name in entered] == ["as_list"]
    assert max(checks.values()) == 3
