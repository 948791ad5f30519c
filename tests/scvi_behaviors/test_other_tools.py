"""Other models and tools of scvi-tools that start from a trained model."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

NEEDS_BATCH = "the networks differ where there are several batches; an error says so"
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.mark.behavior("`SCANVI.from_scvi_model`", default=NEEDS_BATCH)
def test_scanvi(trained, cells, kind):
    start = scvi.model.SCANVI.from_scvi_model
    if kind == "default":
        with pytest.raises(ValueError, match="condition_on_batch=True"):
            start(trained, "unknown")
        return
    scanvi = start(trained, "unknown", labels_key="labels", adata=cells(seed=3))
    for name in ("z_encoder.mean_encoder.weight", "decoder.px_scale_decoder.0.weight", "px_r"):
        assert torch.equal(scanvi.module.state_dict()[name], trained.module.state_dict()[name])
    scanvi.train(max_epochs=1, **QUIET)
    assert set(scanvi.predict()) <= {"a", "b", "c"}


@pytest.mark.behavior("`SOLO.from_scvi_model`")
@pytest.mark.filterwarnings("ignore")
def test_solo(trained):
    solo = scvi.external.SOLO.from_scvi_model(trained, restrict_to_batch="batch_0")
    solo.train(max_epochs=1, train_size=0.9, **QUIET)
    frame = solo.predict(include_simulated_doublets=False)
    assert frame.shape == (30, 2)
    assert np.isfinite(frame).all(axis=None)


@pytest.mark.behavior("`PosteriorPredictiveCheck`: coefficient of variation, zeros, calibration")
@pytest.mark.filterwarnings("ignore")
def test_criticism(trained):
    from scvi.criticism import PosteriorPredictiveCheck

    try:
        check = PosteriorPredictiveCheck(trained.adata, {"model1": trained}, n_samples=3)
    except ValueError as error:
        if "setting an array element with a sequence" not in str(error):
            raise
        pytest.skip("scvi.model.SCVI fails here, too: scvi-tools 1.4 does not know this version of xarray")
    check.coefficient_of_variation("cells")
    check.coefficient_of_variation("features")
    check.zero_fraction()
    check.calibration_error()
    assert {"cv_cell", "cv_gene", "zero_fraction", "calibration"} <= set(check.metrics)
    assert isinstance(check.metrics["cv_cell"], pd.DataFrame)
    assert np.isfinite(check.metrics["zero_fraction"]).all(axis=None)
