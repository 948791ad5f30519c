"""What an editor sees: sub-packages that load lazily are known to type checkers, so that a misspelled name is flagged."""

import importlib.util
import json
import subprocess
import sys

import pytest

SNIPPET = """
import anndata
import scbetavae

adata = anndata.AnnData()
model = scbetavae.model.BetaVAE(adata)
model.trian()
model.train(max_steps=5)
scbetavae.pl.latent_summry(adata)
scbetavae.pl.latent_summary(adata)
scbetavae.metrics.mgi
"""


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright is in the extra dev")
def test_a_misspelled_name_is_flagged(tmp_path):
    (tmp_path / "notebook.py").write_text(SNIPPET)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "basic"}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = [
        (entry["range"]["start"]["line"], entry["message"].splitlines()[0])
        for entry in json.loads(printed)["generalDiagnostics"]
        if entry["severity"] == "error"
    ]
    assert [line for line, _ in found] == [6, 8, 10]
    for (_, message), name in zip(found, ("trian", "latent_summry", "mgi"), strict=True):
        assert name in message
