"""The cells of a command: read, set up, and described."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from scbetavae import __version__
from scbetavae.cli._errors import users_mistakes
from scbetavae.cli._outputs import line

if TYPE_CHECKING:
    from anndata import AnnData


def load_cells(options: Namespace) -> AnnData:
    """The user's cells, or the bundled ones, whose columns are then the default keys."""
    if options.file is not None:
        from scbetavae.cli._io import read_cells

        with users_mistakes(OSError, ValueError, ModuleNotFoundError):
            return read_cells(options.file)
    from scbetavae.datasets import pbmc68k

    options.batch_key = options.batch_key or "batch"
    options.labels_key = options.labels_key or "bulk_labels"
    options.covariates = options.covariates or list(dict.fromkeys((options.batch_key, options.labels_key, "phase")))
    return pbmc68k(planted_batches=2)


def set_up(adata: AnnData, options: Namespace) -> None:
    """Call ``setup_anndata``; unless named, covariates are batch and labels."""
    from scbetavae.model import BetaVAE

    if options.covariates is None:
        named = (options.batch_key, options.labels_key)
        options.covariates = list(dict.fromkeys(key for key in named if key is not None))
    passed = ["layer", "batch_key", "labels_key", "size_factor_key", "encoder_obsm_key"]
    passed += ["categorical_covariate_keys", "continuous_covariate_keys"]
    BetaVAE.setup_anndata(adata, **{name: getattr(options, name) for name in passed})


def report_cells(adata: AnnData, options: Namespace, command: str = "") -> None:
    """The first two lines of the report."""
    source = options.file or "700 blood cells with a planted batch effect, as no file was given"
    print(f"scbetavae {__version__}{command}: {source}")
    described = [f"{adata.n_obs} cells x {adata.n_vars} genes"]
    for key, one, many in ((options.batch_key, "batch", "batches"), (options.labels_key, "label", "labels")):
        if key is not None:
            n_values = adata.obs[key].nunique()
            described.append(f"{n_values} {one if n_values == 1 else many} ({key})")
    line("data", ", ".join(described))
