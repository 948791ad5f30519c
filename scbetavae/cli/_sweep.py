"""The command ``scbetavae sweep``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scbetavae import __version__
from scbetavae.cli._arguments import (
    LIKELIHOODS,
    OBJECTIVES,
    STRICT,
    _add_anchor,
    _add_data,
    _add_length,
    _names,
    _objective,
    _Parser,
    _schedule,
    _weight,
    _whole,
    anchor_of,
)
from scbetavae.cli._extras import NOT_MADE, Extras, line

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

TABLE, WORDS, PICTURE, TRADEOFF = OUTPUTS = ("sweep.csv", "recommendation.txt", "beta_sweep.png", "tradeoff.png")
BETAS = (1.0, 2.0, 4.0, 10.0)
BASELINES = ("pca", "ica")
# Scores with one value a run; the others, such as that of neighbors, are for the table.
SCORES = (
    "mig",
    "sap",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
    "modularity",
    "lms",
    "msas",
    "msgs",
)
SCORES += ("dcimig", "mig_sup", "agreement", "udr", "kmeans_ari", "ilisi", "gaussian_total_correlation")

_DESCRIPTION = """\
Train a model for every beta and seed, score them all alike, and say which beta the curves speak for.
Without a file it runs on 700 real blood cells (PBMCs) with a planted batch effect."""

_EPILOG = f"""\
what is written to the folder --out
  {TABLE:<20} a row per run and metric
  {WORDS:<20} the setting at the knee, and what is tied with it
  {PICTURE:<20} likelihood, KL, active dimensions and scores against beta, with baselines
  {TRADEOFF:<20} the likelihood against --score
  runs/                every run with its scores, codes and history, as soon as it ends
A sweep that was stopped goes on where it was when the same command is given again, and so does one with more betas
or seeds. A run that failed is tried again. Of the other outputs, one that could not be made is a row in {NOT_MADE}.

examples
  scbetavae sweep
      the 700 blood cells: 4 betas, 3 seeds
  scbetavae sweep cells.h5ad --batch-key donor --labels-key cell_type --betas 1,2,4,10 --seeds 5 --out cells-sweep
      your cells
  scbetavae sweep cells.h5ad --covariates cell_type,treatment --objectives beta_vae,beta_tcvae --jobs 4
      two objectives, four processes
  scbetavae sweep cells.h5ad --batch-key plate --covariates cell_type --engine ray --address auto --num-gpus 1
      on a Ray cluster, a GPU each run

exit codes
  0 done, 1 with --strict if an output could not be made, 2 a mistake in the arguments or the data, 3 all models failed,
  130 interrupted, 143 terminated
"""


def sweep_parser() -> argparse.ArgumentParser:
    """Arguments of ``scbetavae sweep``."""
    parser = _Parser(
        prog="scbetavae sweep",
        usage="scbetavae sweep [file] [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", nargs="?", type=Path, help="cells: .h5ad, .zarr, .loom, or .h5 from 10x Cell Ranger")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("scbetavae-sweep"), help="folder of the sweep [%(default)s]"
    )
    parser.add_argument("--strict", action="store_true", help=STRICT)
    parser.add_argument("--debug", action="store_true", help="show the traceback of a mistake")
    parser.add_argument("--version", action="version", version=f"scbetavae {__version__}")
    _add_data(parser.add_argument_group("data"))
    _add_grid(parser.add_argument_group("grid"))
    _add_models(parser.add_argument_group("models"))
    _add_scoring(parser.add_argument_group("scores"))
    _add_engine(parser.add_argument_group("engine"))
    return parser


def run_sweep(options: argparse.Namespace) -> int:
    """Sweep the file, or the embedded cells; write the table, the recommendation and the pictures."""
    from scbetavae.cli._console import quiet_libraries

    with quiet_libraries():
        try:
            table = _sweep(options)
            _report_runs(table)
            extras = _write(table, options)
        except KeyboardInterrupt:
            _stop(130, f"interrupted; finished runs are in {options.out}, and the same command goes on from there")
        except SystemExit as stop:
            if stop.code in (2, 3, 130):
                raise
            # Lightning turns a request to terminate, such as that of a cluster at the end of its time, into an exit.
            _stop(143, f"terminated; finished runs are in {options.out}, and the same command goes on from there")
    line("written to", f"{options.out}/: {', '.join([TABLE, *extras.made, *extras.write_reasons()])}, runs/")
    return extras.exit_code(options.out, strict=options.strict)


def _add_grid(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--betas", metavar="X,Y", type=_betas, default=BETAS, help="weights of the regularizer [1,2,4,10]"
    )
    group.add_argument("--seeds", metavar="N", type=_whole(1), default=3, help="seeds of every setting [%(default)s]")
    group.add_argument(
        "--objectives",
        metavar="A,B",
        type=lambda text: [_objective(name) for name in _names(text)],
        default=["beta_tcvae"],
        help=f"{', '.join(OBJECTIVES)} [beta_tcvae]",
    )
    group.add_argument(
        "--baselines", metavar="A,B", type=_names, default=list(BASELINES), help="pca, ica, or none [pca,ica]"
    )


def _add_models(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--n-latent", metavar="N", type=_whole(1), default=10, help="latent dimensions [%(default)s]")
    _add_anchor(group)
    group.add_argument(
        "--condition-on-batch",
        action="store_true",
        help="give the batch to the decoder, rather than leave it to the latent space",
    )
    group.add_argument(
        "--gene-likelihood", choices=LIKELIHOODS, default="nb", help="distribution of the counts [%(default)s]"
    )
    group.add_argument(
        "--schedule", metavar="NAME", type=_schedule, default="linear", help="how beta rises [%(default)s]"
    )
    _add_length(group)
    group.add_argument("--batch-size", metavar="N", type=_whole(2), default=128, help="cells a step [%(default)s]")
    group.add_argument("--accelerator", default="auto", metavar="NAME", help="auto, cpu, gpu, mps, ... [%(default)s]")
    group.add_argument("--save-models", action="store_true", help="keep the trained models, too")


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--covariates",
        metavar="A,B",
        type=_names,
        help="columns of .obs that the dimensions are scored against [batch and labels]",
    )
    group.add_argument("--donor-key", metavar="COLUMN", help="column of .obs: donors, on which models are held out")
    group.add_argument(
        "--score",
        metavar="NAME",
        type=_score,
        default="mig",
        help=f"score that is weighed against the likelihood: {', '.join(SCORES)} [%(default)s]",
    )


def _add_engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="where runs are done [%(default)s]")
    group.add_argument("--jobs", metavar="N", type=_whole(1), default=1, help="local: processes [%(default)s]")
    group.add_argument("--threads", metavar="N", type=_whole(1), default=1, help="threads of a run [%(default)s]")
    group.add_argument("--address", metavar="ADDRESS", help="Ray: cluster [RAY_ADDRESS, or a new one on this machine]")
    group.add_argument("--num-gpus", metavar="X", type=_weight, default=0.0, help="Ray: GPUs of a run [%(default)g]")


def _sweep(options: argparse.Namespace) -> pd.DataFrame:
    from scbetavae.model import BetaVAE
    from scbetavae.sweep import beta_sweep

    try:
        adata = _load(options)
        BetaVAE.setup_anndata(
            adata,
            layer=options.layer,
            batch_key=options.batch_key,
            labels_key=options.labels_key,
            size_factor_key=options.size_factor_key,
            categorical_covariate_keys=options.categorical_covariate_keys,
            continuous_covariate_keys=options.continuous_covariate_keys,
            encoder_obsm_key=options.encoder_obsm_key,
        )
        keys = (key for key in (options.batch_key, options.labels_key) if key is not None)
        options.covariates = options.covariates or list(dict.fromkeys(keys))
        if not options.covariates:
            msg = "no column was named to score against: --covariates cell_type,donor, or --batch-key and --labels-key."
            raise ValueError(msg)
        _report_start(adata, options)
        return beta_sweep(adata, options.betas, **_arguments(options))
    except (OSError, KeyError, TypeError, ValueError, ModuleNotFoundError) as error:
        if options.debug:
            raise
        # str(KeyError("text")) puts the text in quotes; an OSError's first argument is a number.
        message = str(error) if isinstance(error, OSError) or not error.args else str(error.args[0])
        _stop(2, f"error: {' '.join(message.split())}")


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of ``beta_sweep``."""
    on_ray = {"num_gpus": options.num_gpus}
    if options.address is not None:
        on_ray["address"] = options.address
    return {
        "covariates": options.covariates,
        "out_dir": options.out,
        "objectives": options.objectives,
        "seeds": range(options.seeds),
        "donor_key": options.donor_key,
        "baselines": [name for name in options.baselines if name != "none"],
        "model_kwargs": {
            "n_latent": options.n_latent,
            "anchor": anchor_of(options),
            "condition_on_batch": options.condition_on_batch,
            "gene_likelihood": options.gene_likelihood,
        },
        "train_kwargs": {
            "max_epochs": options.max_epochs,
            "max_steps": options.max_steps,
            "beta_schedule": options.schedule,
            "batch_size": options.batch_size,
            "accelerator": options.accelerator,
        },
        "engine": options.engine,
        "engine_kwargs": on_ray if options.engine == "ray" else None,
        "n_jobs": options.jobs,
        "num_threads": options.threads,
        "save_models": options.save_models,
        "progress": lambda state: print(state, file=sys.stderr, flush=True),
    }


def _load(options: argparse.Namespace) -> AnnData:
    """The user's cells, or the embedded ones, whose columns are then the default keys."""
    if options.file is not None:
        from scbetavae.cli._io import read_cells

        return read_cells(options.file)
    from scbetavae.datasets import pbmc68k

    options.batch_key = options.batch_key or "batch"
    options.labels_key = options.labels_key or "bulk_labels"
    options.covariates = options.covariates or list(dict.fromkeys((options.batch_key, options.labels_key, "phase")))
    return pbmc68k(planted_batches=2)


def _write(table: pd.DataFrame, options: argparse.Namespace) -> Extras:
    """Write the recommendation and the pictures, each on its own: the runs and their table are there already."""
    from scbetavae import pl
    from scbetavae.sweep import recommend_beta

    if not ((table["kind"] == "model") & (table["status"] == "done")).any():
        error = table.loc[table["kind"] == "model", "error"].iloc[0]
        _stop(3, f"all models failed, the first with: {error}")
    for name in (WORDS, PICTURE, TRADEOFF, NOT_MADE):  # of the sweep when it had fewer runs
        (options.out / name).unlink(missing_ok=True)
    extras = Extras(options.out, debug=options.debug)
    words = extras.compute("advice", [WORDS], lambda: recommend_beta(table, options.score).reason)
    if words is not None:
        extras.write(WORDS, lambda path: path.write_text(f"{words}\n"))
    extras.picture(PICTURE, pl.beta_sweep, table)
    extras.picture(TRADEOFF, pl.tradeoff, table, options.score)
    return extras


def _report_start(adata: AnnData, options: argparse.Namespace) -> None:
    source = options.file or "700 blood cells with a planted batch effect, as no file was given"
    print(f"scbetavae {__version__} sweep: {source}")
    betas = ", ".join(f"{beta:g}" for beta in options.betas)
    line("data", f"{adata.n_obs} cells x {adata.n_vars} genes")
    line("grid", f"{', '.join(options.objectives)}; beta {betas}; {options.seeds} seeds")
    line("scores", f"against {', '.join(options.covariates)}")


def _report_runs(table: pd.DataFrame) -> None:
    runs = table.drop_duplicates("run")
    failed = runs[runs["status"] == "failed"]
    line("runs", f"{len(runs) - len(failed)} done, {len(failed)} failed")
    for row in failed.itertuples():
        print(f"  {row.run}: {row.error}")


def _betas(text: str) -> tuple[float, ...]:
    betas = tuple(_weight(part) for part in _names(text))
    if not betas:
        msg = f"{text!r} names no beta; give at least one beta, such as 0.1,1,4"
        raise argparse.ArgumentTypeError(msg)
    return betas


def _score(text: str) -> str:
    if text not in SCORES:
        nearest = difflib.get_close_matches(text, SCORES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        msg = f"there is no score {text!r} among {', '.join(SCORES)}{hint}"
        raise argparse.ArgumentTypeError(msg)
    return text


def _stop(code: int, message: str) -> NoReturn:
    print(f"scbetavae: {message}", file=sys.stderr)
    raise SystemExit(code)
