"""The command ``scbetavae``: train, score, store and draw in one line.

Run as ``scbetavae`` or ``python -m scbetavae``. Everything heavy is imported after the arguments are parsed.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from scbetavae import __version__, _keys
from scbetavae._command._arguments import (
    ACTION_OUTPUTS,
    CELLS,
    CURVES,
    DIMENSIONS,
    DIMENSIONS_PICTURE,
    MODEL,
    OUTPUTS,
    SCORE_OUTPUTS,
    SCORES,
    SCORES_PICTURE,
    TRAINING_OUTPUTS,
    UMAP,
    train_parser,
)
from scbetavae._command._output import check_output, staged_folder
from scbetavae._command._sweep import run_sweep, sweep_parser

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

    from scbetavae.model import BetaVAE

RESOLUTION = 150  # dots per inch of the pictures
MIN_CELLS = 10  # a tenth of the cells is held out


class UserMistakeError(Exception):
    """A mistake in the arguments or the data: one line for the user, no traceback."""


class TerminatedError(Exception):
    """The process was asked to end while it trained."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        What follows the command's name; taken from the command line unless given.

    Returns
    -------
    int
        Exit code: 0, 2 after a mistake of the user's, 130 after an interrupt from the keyboard, 143 after a request to
        terminate.
    """
    # Threads that wait actively take the processor from those they wait for, on a machine with other work: the default run
    # then takes ten times as long. Read by OpenMP when torch loads, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments.pop(0) if arguments[:1] and arguments[0] in COMMANDS else "train"
    make_parser, run = COMMANDS[name]
    options = make_parser().parse_args(arguments)
    try:
        run(options)
    except UserMistakeError as mistake:
        if options.debug:
            raise
        print(f"scbetavae: error: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("scbetavae: interrupted, nothing was written", file=sys.stderr)
        return 130
    except TerminatedError:
        print("scbetavae: terminated, nothing was written", file=sys.stderr)
        return 143
    return 0


def train(options: Namespace) -> None:
    """Train on the file, or on the embedded cells, and write the model, the cells, the scores and the pictures."""
    with _users_mistakes(OSError):
        check_output(options.out, OUTPUTS, source=options.file)
    # Below this line the heavy packages load.
    from scbetavae._command._actions import Actions
    from scbetavae._command._console import quiet_libraries

    with quiet_libraries():
        adata = _load(options)
        with _users_mistakes(KeyError, TypeError, ValueError):
            model = _prepare(adata, options)
        _report_start(adata, model, options)
        seconds = _fit(model, options)
        adata.obsm[_keys.LATENT] = model.get_latent_representation()
        scores = _score(model, options)
        actions = None if options.no_actions else Actions(model, options)
        with _users_mistakes(OSError), staged_folder(options.out) as folder:
            _write(adata, model, options, folder)
            if scores is not None:
                _write_scores(adata, folder)
            acted = [] if actions is None else actions.write(folder, RESOLUTION)
        names = [*TRAINING_OUTPUTS, *(() if scores is None else SCORE_OUTPUTS)]
        names += [name for name in ACTION_OUTPUTS if name in acted]
        _remove_earlier(options.out, keep=names)
    _report_end(adata.uns[_keys.UNS][_keys.HISTORY], model, seconds)
    _report_scores(scores, options)
    for title, text in () if actions is None else actions.lines:
        _line(title, text)
    _line("written to", f"{options.out}/: {', '.join(f'{MODEL}/' if name == MODEL else name for name in names)}")


COMMANDS = {"train": (train_parser, train), "sweep": (sweep_parser, run_sweep)}


def _load(options: Namespace) -> AnnData:
    """The user's cells, or the embedded ones, whose columns are then the default keys."""
    if options.file is not None:
        from scbetavae._io import read_cells

        with _users_mistakes(OSError, ValueError, ModuleNotFoundError):
            adata = read_cells(options.file)
        if adata.n_obs < MIN_CELLS:
            msg = f"{str(options.file)!r} holds {adata.n_obs} cells; at least {MIN_CELLS} are needed, of which one is held out."
            raise UserMistakeError(msg)
        return adata
    from scbetavae.datasets import pbmc68k

    options.batch_key = options.batch_key or "batch"
    options.labels_key = options.labels_key or "bulk_labels"
    options.covariates = options.covariates or list(dict.fromkeys((options.batch_key, options.labels_key, "phase")))
    # The planted batch is the one difference between these cells that is known, so it stands for a condition, too.
    options.condition = options.condition or options.batch_key
    return pbmc68k(planted_batches=2)


def _prepare(adata: AnnData, options: Namespace) -> BetaVAE:
    import scvi

    from scbetavae.model import BetaVAE

    if options.covariates is None:
        options.covariates = list(
            dict.fromkeys(key for key in (options.batch_key, options.labels_key) if key is not None)
        )
    scvi.settings.seed = options.seed
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
    # A mistake shows now, not after training.
    from scbetavae.tl._inputs import read_columns

    if _scores_are_wanted(options):
        columns = options.covariates, options.group_key
        read_columns(adata, *columns, categorical=options.categorical, registered=_class_columns(options))
    if options.condition is not None and not options.no_actions:
        read_columns(adata, options.condition, options.group_key, categorical=options.condition)
        _check_ends(adata, options)
    return BetaVAE(
        adata,
        beta=options.beta,
        objective=options.objective,
        objective_kwargs=dict(options.objective_arg) or None,
        n_latent=options.n_latent,
        condition_on_batch=options.condition_on_batch,
        gene_likelihood=options.gene_likelihood,
    )


def _check_ends(adata: AnnData, options: Namespace) -> None:
    """Refuse a source or a target that no cell has."""
    from scbetavae.tl._inputs import class_name

    values = [class_name(value) for value in adata.obs[options.condition].dropna().unique()]
    for name in ("source", "target"):
        wanted = getattr(options, name)
        if wanted is not None and wanted not in values:
            there = ", ".join(repr(value) for value in values[:8])
            msg = f"--{name} {wanted!r} is not a value of {options.condition!r}, which has {there}."
            raise ValueError(msg)
    if (options.source is None) != (options.target is None):
        msg = "--source and --target belong together: give both, or neither."
        raise ValueError(msg)


def _fit(model: BetaVAE, options: Namespace) -> float:
    """Train, and return the seconds it took."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from scbetavae._command._console import EpochProgress

    # Held-out cells are a tenth; looking at them every epoch of a long run would only cost time.
    validate_every = 1 if options.max_epochs is not None and options.max_epochs < 50 else 5
    started = time.perf_counter()
    try:
        # scvi-tools prints a line of its own when training ends early.
        with _users_mistakes(ValueError, MisconfigurationException), redirect_stdout(StringIO()):
            model.train(
                max_epochs=options.max_epochs,
                beta_schedule=options.schedule,
                batch_size=options.batch_size,
                early_stopping=options.early_stopping,
                check_val_every_n_epoch=None if options.early_stopping else validate_every,
                accelerator=options.accelerator,
                enable_progress_bar=False,
                callbacks=[EpochProgress()],
            )
    except SystemExit as stop:
        # Lightning turns an interrupt from the keyboard into an exit with code 1, and a request to terminate, such as
        # that of a cluster at the end of its time, into one with code 0.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise TerminatedError from stop
    return time.perf_counter() - started


def _scores_are_wanted(options: Namespace) -> bool:
    return bool(options.covariates) and not options.no_scores


def _class_columns(options: Namespace) -> list[str]:
    """Columns whose values are names of classes, whatever their type."""
    named = [options.batch_key, options.labels_key, options.condition, options.group_key]
    return [name for name in (*named, *(options.categorical or ())) if name is not None]


def _score(model: BetaVAE, options: Namespace) -> pd.DataFrame | None:
    if not _scores_are_wanted(options):
        return None
    print("scores ...", file=sys.stderr, flush=True)
    with _users_mistakes(ValueError):
        return model.score_disentanglement(
            options.covariates, group_key=options.group_key, categorical=_class_columns(options), seed=options.seed
        )


def _write(adata: AnnData, model: BetaVAE, options: Namespace, folder: Path) -> None:
    import scanpy as sc

    from scbetavae import pl

    print("neighbours and UMAP ...", file=sys.stderr, flush=True)
    sc.pp.neighbors(adata, use_rep=_keys.LATENT, random_state=options.seed)
    sc.tl.umap(adata, random_state=options.seed)
    model.save(str(folder / MODEL))
    adata.write_h5ad(folder / CELLS)
    pl.training(adata).savefig(folder / CURVES, dpi=RESOLUTION)
    colors = [key for key in (options.labels_key, options.batch_key) if key is not None]
    pl.embedding(adata, colors, basis=_keys.LATENT_UMAP).savefig(folder / UMAP, dpi=RESOLUTION)


def _write_scores(adata: AnnData, folder: Path) -> None:
    from scbetavae import pl

    stored = adata.uns[_keys.UNS]
    stored[_keys.DISENTANGLEMENT].to_csv(folder / SCORES, index=False)
    stored[f"{_keys.DISENTANGLEMENT}{_keys.DIMENSIONS_SUFFIX}"].to_csv(folder / DIMENSIONS, index=False)
    pl.scores(adata).savefig(folder / SCORES_PICTURE, dpi=RESOLUTION)
    pl.dimension_covariate(adata).savefig(folder / DIMENSIONS_PICTURE, dpi=RESOLUTION)


def _remove_earlier(folder: Path, keep: Sequence[str]) -> None:
    """Results of an earlier run would lie beside a model that they do not describe."""
    for name in {*SCORE_OUTPUTS, *ACTION_OUTPUTS} - set(keep):
        (folder / name).unlink(missing_ok=True)


def _report_start(adata: AnnData, model: BetaVAE, options: Namespace) -> None:
    described = [f"{adata.n_obs} cells x {adata.n_vars} genes"]
    for noun, key in (("batch", options.batch_key), ("label", options.labels_key)):
        if key is not None:
            n_values = adata.obs[key].nunique()
            plural = noun if n_values == 1 else {"batch": "batches", "label": "labels"}[noun]
            described.append(f"{n_values} {plural} ({key})")
    source = options.file or "700 blood cells with a planted batch effect, as no file was given"
    print(f"scbetavae {__version__}: {source}")
    _line("data", ", ".join(described))
    strength = [f"{name} {value}" for name, value in options.objective_arg]
    if options.objective in ("beta_vae", "beta_tcvae", "factor_vae"):
        beta = model.module.beta if isinstance(options.schedule, str) else options.schedule
        strength.insert(0, f"beta {beta:g}")
    if isinstance(options.schedule, str):
        strength.append(f"{options.schedule} schedule")
    described = [
        options.objective,
        *strength,
        f"{options.n_latent} latent dimensions",
        f"{options.gene_likelihood} likelihood",
    ]
    _line("model", ", ".join(described))


def _report_end(history: pd.DataFrame, model: BetaVAE, seconds: float) -> None:
    last = history.iloc[-1]
    _line("training", f"{len(history)} epochs in {seconds:.0f} s on {model.device}")
    for title, quantity in (("NLL", "nll"), ("KL", "kl")):
        held_out = history.get(f"{quantity}_validation")
        held_out = None if held_out is None else held_out.dropna()
        tail = "" if held_out is None or held_out.empty else f" in training, {held_out.iloc[-1]:.2f} held out"
        _line(title, f"{last[f'{quantity}_train']:.2f} nats per cell{tail}")
    _line("dimensions", f"{last['active_dimensions']:.0f} of {model.module.n_latent} active")


def _report_scores(scores: pd.DataFrame | None, options: Namespace) -> None:
    if scores is not None:
        from scbetavae._command._scores import score_lines

        first, *lines = score_lines(scores)
        _line("scores", first)
        for line in lines:
            print(line)
    elif not options.no_scores:
        _line("scores", "none, as no column was named: --covariates cell_type,donor")


def _line(title: str, text: str) -> None:
    print(f"{title:<12}{text}", flush=True)


@contextmanager
def _users_mistakes(*kinds: type[Exception]) -> Iterator[None]:
    """Turn these errors into one line for the user."""
    try:
        yield
    except kinds as error:
        # str(KeyError("text")) puts the text in quotes; an OSError's first argument is a number.
        message = str(error) if isinstance(error, OSError) or not error.args else str(error.args[0])
        raise UserMistakeError(" ".join(message.split())) from error


if __name__ == "__main__":
    sys.exit(main())
