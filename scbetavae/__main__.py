"""The command ``scbetavae``: train, score, store and draw in one line.

Run as ``scbetavae`` or ``python -m scbetavae``. Everything heavy is imported after the arguments are parsed.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from scbetavae import __version__
from scbetavae._core import keys as _keys
from scbetavae._core.folders import check_output, staged_folder
from scbetavae.cli._arguments import CELLS, MODEL, OUTPUTS, anchor_of, class_columns, train_parser
from scbetavae.cli._extras import Extras, line, reason_of
from scbetavae.cli._sweep import run_sweep, sweep_parser

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

    from scbetavae.model import BetaVAE

MIN_CELLS = 10  # a tenth of the cells is held out


class UserMistakeError(Exception):
    """A mistake in the arguments or the data: one line for the user, no traceback."""


class TerminatedError(BaseException):
    """The process was asked to end. As with an interrupt from the keyboard, nobody who catches errors shall catch it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        What follows the command's name; taken from the command line unless given.

    Returns
    -------
    int
        Exit code: 0, 1 if an output could not be made and ``--strict`` was given, 2 after a mistake of the user's, 130 after
        an interrupt from the keyboard, 143 after a request to terminate.
    """
    # Threads that wait actively take the processor from those they wait for, on a machine with other work: the default run
    # then takes ten times as long. Read by OpenMP when torch loads, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments.pop(0) if arguments[:1] and arguments[0] in COMMANDS else "train"
    make_parser, run = COMMANDS[name]
    options = make_parser().parse_args(arguments)
    try:
        return run(options)
    except UserMistakeError as mistake:
        if options.debug:
            raise
        print(f"scbetavae: error: {mistake}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, TerminatedError) as stop:
        word, code = ("interrupted", 130) if isinstance(stop, KeyboardInterrupt) else ("terminated", 143)
        print(f"scbetavae: {word}, {stop.args[0] if stop.args else 'nothing was written'}", file=sys.stderr)
        return code


def train(options: Namespace) -> int:
    """Train on the file, or on the embedded cells; write the model and the cells, then all that is made of them."""
    with _users_mistakes(OSError):
        check_output(options.out, OUTPUTS, source=options.file)
    # Below this line the heavy packages load.
    from scbetavae.cli._console import quiet_libraries
    from scbetavae.cli._results import make_results
    from scbetavae.cli._writable import make_writable

    with quiet_libraries(), _terminable():
        adata = _load(options)
        with _users_mistakes(KeyError, TypeError, ValueError):
            changes, renamed = make_writable(adata)
            _follow(renamed, options)
            model = _prepare(adata, options)
        _report_start(adata, model, changes, options)
        seconds = _fit(model, options)
        for name in (_keys.LATENT_ZEROED, f"{_keys.LATENT_UMAP}_{_keys.ZEROED}"):
            adata.obsm.pop(name, None)  # of an earlier model, whose results the training has removed
        _save(adata, model, options.out)
        there = (
            f"the model and the cells with their latent representation are in {options.out}/, nothing else was written"
        )
        try:
            _report_end(adata.uns[_keys.UNS], model, seconds)
            with _users_mistakes(OSError), staged_folder(options.out) as folder:
                extras = Extras(folder, debug=options.debug)
                make_results(adata, model, options, extras)
                extras.write(CELLS, lambda path: (make_writable(adata), adata.write_h5ad(path)), f"results in {CELLS}")
                names = dict.fromkeys([CELLS, MODEL, *extras.made, *extras.write_reasons()])
        except UserMistakeError as mistake:
            msg = f"{mistake}; {there}"
            raise UserMistakeError(msg) from mistake
        except (KeyboardInterrupt, TerminatedError) as stop:
            raise type(stop)(there) from stop
    written = (f"{MODEL}/" if name == MODEL else name for name in sorted(names, key=OUTPUTS.index))
    line("written to", f"{options.out}/: {', '.join(written)}")
    return extras.exit_code(options.out, strict=options.strict)


COMMANDS = {"train": (train_parser, train), "sweep": (sweep_parser, run_sweep)}


def _load(options: Namespace) -> AnnData:
    """The user's cells, or the embedded ones, whose columns are then the default keys."""
    if options.file is not None:
        from scbetavae.cli._io import read_cells

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
    return pbmc68k(planted_batches=2)


def _follow(renamed: Mapping[str, Mapping[str, str]], options: Namespace) -> None:
    """Name what was renamed by its new name."""
    columns = renamed.get("obs", {})
    for name in ("batch_key", "labels_key", "size_factor_key", "donor_key", "condition"):
        setattr(options, name, columns.get(getattr(options, name), getattr(options, name)))
    for name in ("covariates", "categorical_covariate_keys", "continuous_covariate_keys"):
        if getattr(options, name) is not None:
            setattr(options, name, [columns.get(key, key) for key in getattr(options, name)])
    options.layer = renamed.get("layers", {}).get(options.layer, options.layer)
    options.encoder_obsm_key = renamed.get("obsm", {}).get(options.encoder_obsm_key, options.encoder_obsm_key)


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
    from scbetavae.cli._results import scores_are_wanted
    from scbetavae.tl._inputs import read_columns

    if scores_are_wanted(options):
        columns = options.covariates, options.donor_key
        read_columns(adata, *columns, categorical=options.categorical, registered=class_columns(options))
    if options.condition is not None and not options.no_actions:
        read_columns(adata, options.condition, options.donor_key, categorical=options.condition)
        _check_ends(adata, options)
    return BetaVAE(
        adata,
        beta=options.beta,
        objective=options.objective,
        objective_kwargs=dict(options.objective_arg) or None,
        anchor=anchor_of(options),
        n_latent=options.n_latent,
        condition_on_batch=options.condition_on_batch,
        gene_likelihood=options.gene_likelihood,
    )


def _check_ends(adata: AnnData, options: Namespace) -> None:
    """Refuse a source or a target that no cell has."""
    from scbetavae._core.columns import class_name

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

    from scbetavae.cli._console import StepProgress
    from scbetavae.model import TrainingDivergedError

    validate_every = 1 if options.early_stopping else _epochs_between_validations(model, options)
    started = time.perf_counter()
    try:
        # scvi-tools prints a line of its own when training ends early.
        with _users_mistakes(ValueError, MisconfigurationException, TrainingDivergedError), redirect_stdout(StringIO()):
            model.train(
                max_epochs=options.max_epochs,
                max_steps=options.max_steps,
                beta_schedule=options.schedule,
                batch_size=options.batch_size,
                early_stopping=options.early_stopping,
                check_val_every_n_epoch=validate_every,
                accelerator=options.accelerator,
                simple_progress_bar=False,  # ours is in its place
                callbacks=[StepProgress()],
            )
    except SystemExit as stop:
        # Lightning turns an interrupt from the keyboard into an exit with code 1, and a request to terminate, such as
        # that of a cluster at the end of its time, into one with code 0.
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise TerminatedError from stop
    return time.perf_counter() - started


def _epochs_between_validations(model: BetaVAE, options: Namespace) -> int:
    """Epochs after which held-out cells, a tenth, are looked at: about twenty times a run, as each time costs some."""
    n_cells = max(round(0.9 * model.adata.n_obs), 1)
    n_steps = options.max_steps or 15 * math.sqrt(n_cells)  # the default length, near enough
    n_epochs = options.max_epochs or n_steps / math.ceil(n_cells / options.batch_size)
    return max(int(n_epochs // 20), 1)


def _save(adata: AnnData, model: BetaVAE, out: Path) -> None:
    """Write the model, and the cells with their latent representation, in one step; what an earlier run left goes."""
    failed: Exception | None = None
    with _users_mistakes(OSError), staged_folder(out) as folder:
        model.save(str(folder / MODEL))
        try:
            adata.obsm[_keys.LATENT] = model.get_latent_representation()
            adata.write_h5ad(folder / CELLS)
        except Exception as error:  # noqa: BLE001 - whatever it is, such as a full disk, the model is kept
            failed = error
            (folder / CELLS).unlink(missing_ok=True)
    # Results of an earlier run would lie beside a model that they do not describe.
    for name in set(OUTPUTS) - ({MODEL} if failed else {MODEL, CELLS}):
        (out / name).unlink(missing_ok=True)
    if failed is not None:
        msg = f"the cells could not be written ({reason_of(failed)}); the trained model is in {out / MODEL}/."
        raise UserMistakeError(msg) from failed


def _report_start(adata: AnnData, model: BetaVAE, changes: Sequence[str], options: Namespace) -> None:
    described = [f"{adata.n_obs} cells x {adata.n_vars} genes"]
    for noun, key in (("batch", options.batch_key), ("label", options.labels_key)):
        if key is not None:
            n_values = adata.obs[key].nunique()
            plural = noun if n_values == 1 else {"batch": "batches", "label": "labels"}[noun]
            described.append(f"{n_values} {plural} ({key})")
    source = options.file or "700 blood cells with a planted batch effect, as no file was given"
    print(f"scbetavae {__version__}: {source}")
    line("data", ", ".join(described))
    if changes:
        line("converted", f"so that {CELLS} can be written: {'; '.join(changes)}")
    strength = [f"{name} {value}" for name, value in options.objective_arg]
    if options.objective in ("beta_vae", "beta_tcvae", "factor_vae"):
        beta = model.module.beta if isinstance(options.schedule, str) else options.schedule
        strength.insert(0, f"beta {beta:g}")
    if options.schedule != "linear" and isinstance(options.schedule, str):
        strength.append(f"{options.schedule} schedule")
    described = [
        options.objective,
        *strength,
        f"{options.n_latent} latent dimensions",
        f"{options.gene_likelihood} likelihood",
    ]
    line("model", ", ".join(described))


def _report_end(stored: Mapping[str, Any], model: BetaVAE, seconds: float) -> None:
    history, parameters = stored[_keys.HISTORY], stored[_keys.PARAMS]
    last = history.iloc[-1]
    line("training", f"{parameters['steps']} steps in {seconds:.0f} s on {model.device}")
    for title, quantity in (("NLL", "nll"), ("KL", "kl")):
        held_out = history.get(f"{quantity}_validation")
        held_out = None if held_out is None else held_out.dropna()
        tail = "" if held_out is None or held_out.empty else f" in training, {held_out.iloc[-1]:.2f} held out"
        line(title, f"{last[f'{quantity}_train']:.2f} nats per cell{tail}")
    line("dimensions", f"{last['active_dimensions']:.0f} of {model.module.n_latent} active")
    if model.module.anchor is not None:
        line("anchor", _describe_anchor(model))


def _describe_anchor(model: BetaVAE) -> str:
    """How many dimensions were anchored, and how stable their components are."""
    anchor = model.module.anchor
    known = anchor.stability[anchor.stability >= 0]
    described = f"{anchor.n_components} of {model.module.n_latent} dimensions anchored ({anchor.kind})"
    return described + (f", stability {known.min():.2f} to {known.max():.2f}" if len(known) else "")


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to terminate end the command as an interrupt does, so that no half-written folder stays."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    def stop(*_: object) -> None:
        raise TerminatedError

    earlier = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def _users_mistakes(*kinds: type[Exception]) -> Iterator[None]:
    """Turn these errors into one line for the user."""
    try:
        yield
    except kinds as error:
        raise UserMistakeError(reason_of(error)) from error


if __name__ == "__main__":
    sys.exit(main())
