"""The command ``scbetavae train``: what it does, in order."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scbetavae._core import keys as _keys
from scbetavae._core.folders import check_folder, check_output, staged_folder
from scbetavae._core.text import counted
from scbetavae.cli import _errors as errors
from scbetavae.cli._arguments import anchor_of, uses_beta
from scbetavae.cli._io import load_cells, report_cells, set_up
from scbetavae.cli._outputs import (
    CELLS,
    FIGURES,
    MODEL,
    TABLES,
    Outputs,
    line,
    remove_empty,
    staged_outputs,
)
from scbetavae.cli._progress import Progress
from scbetavae.cli._train_arguments import OUTPUTS, class_columns, scores_are_wanted

if TYPE_CHECKING:
    from anndata import AnnData

    from scbetavae.model import BetaVAE

MIN_CELLS = 10  # a tenth of the cells is held out
_COMPRESSION = "gzip"
_COLUMNS = ("batch_key", "labels_key", "size_factor_key", "donor_key", "condition")
_COLUMNS += ("covariates", "categorical_covariate_keys", "continuous_covariate_keys")


def run(options: Namespace) -> int:
    """Train on the file, or on the bundled cells; write the model and the cells, then all other results."""
    with errors.users_mistakes(OSError):
        check_output(options.out, OUTPUTS, source=options.file)
        for name in (TABLES, FIGURES):
            check_folder(options.out / name, "--out")
    progress = Progress()
    progress.show("loading")
    # Below this line the heavy packages load.
    from scbetavae.cli._console import quiet_libraries

    with quiet_libraries(progress), errors.terminable():
        adata = load_cells(options)
        model = _start(adata, options, progress)
        seconds = _fit(model, options, progress)
        _save(adata, model, options.out)
        saved = f"the model and the cells with their latent representation are in {options.out}/"
        saved += ", nothing else was written"
        try:
            outputs, lines = _finish(adata, model, options, progress)
        except errors.CommandError as error:
            msg = f"{error}; {saved}"
            raise errors.CommandError(msg) from error
        except (KeyboardInterrupt, errors.TerminatedError) as stop:
            raise type(stop)(saved) from stop
        progress.clear()
        _report(adata, model, seconds, lines)
    line("written to", _described(options.out, outputs.made))
    return outputs.exit_code(options.out, strict=options.strict)


def _start(adata: AnnData, options: Namespace, progress: Progress) -> BetaVAE:
    """Check the cells, say what they are, and make the model."""
    from scbetavae.cli._genes import choose_symbols, keep_variable_genes
    from scbetavae.cli._writable import make_writable

    if adata.n_obs < MIN_CELLS:
        msg = (
            f"{str(options.file)!r} has {adata.n_obs} cells; at least {MIN_CELLS} are needed, of which one is held out."
        )
        raise errors.CommandError(msg)
    with errors.users_mistakes(KeyError, TypeError, ValueError):
        converted = make_writable(adata)
        _follow(converted.renamed, options)
        symbols = choose_symbols(adata, options)
        genes = keep_variable_genes(adata, options)
        model = _prepare(adata, options)
    progress.clear()
    report_cells(adata, options)
    if converted.changes:
        line("converted", f"so that {CELLS} can be written: {'; '.join(converted.changes)}")
    for title, text in (("genes", genes), ("gene names", symbols)):
        if text:
            line(title, text)
    _report_model(model, options)
    return model


def _finish(
    adata: AnnData, model: BetaVAE, options: Namespace, progress: Progress
) -> tuple[Outputs, list[tuple[str, str]]]:
    """Make and write all results after the training; with them, lines of the report, which follow when all is done."""
    from scbetavae.cli._results import keep_top_genes, make_results
    from scbetavae.cli._writable import make_writable

    def write(path: Path) -> None:
        keep_top_genes(adata)
        make_writable(adata)
        adata.write_h5ad(path, compression=_COMPRESSION)

    lines: list[tuple[str, str]] = []
    with errors.users_mistakes(OSError), staged_outputs(options.out) as place:
        outputs = Outputs(place, lambda *texts: lines.append(texts), debug=options.debug)
        make_results(adata, model, options, outputs, progress)
        outputs.write(CELLS, write, f"results in {CELLS}")
        outputs.made += outputs.write_reasons()
    return outputs, lines


def _described(out: Path, made: list[str]) -> str:
    """The folder, and what is in it."""
    single = [name for name in OUTPUTS if name == CELLS or ("/" not in name and name in made)]
    single.insert(1, f"{MODEL}/")
    for folder, noun in ((TABLES, "table"), (FIGURES, "plot")):
        n = sum(name.startswith(f"{folder}/") for name in made)
        single += [f"{counted(n, noun)} in {folder}/"] if n else []
    return f"{out}/: {', '.join(single)}"


def _follow(renamed: Mapping[str, Mapping[str, str]], options: Namespace) -> None:
    """Replace what was renamed in the options."""
    slots = {"obs": _COLUMNS, "var": ("gene_symbols",), "layers": ("layer",), "obsm": ("encoder_obsm_key",)}
    for slot, names in slots.items():
        new = renamed.get(slot, {})
        for name in names:
            given = getattr(options, name)
            followed = [new.get(key, key) for key in given] if isinstance(given, list) else new.get(given, given)
            setattr(options, name, followed)


def _prepare(adata: AnnData, options: Namespace) -> BetaVAE:
    """The model; mistakes in columns that are read after training show here."""
    import scvi

    from scbetavae import metrics
    from scbetavae._core.checks import as_list
    from scbetavae._core.columns import scored_columns
    from scbetavae.model import BetaVAE

    scvi.settings.seed = options.seed
    set_up(adata, options)
    scored = options.covariates if scores_are_wanted(options) else []
    condition = [] if options.no_actions else as_list(options.condition)
    for columns, classes in ((scored, options.categorical), (condition, condition)):
        if columns:
            kinds = {"categorical": classes, "registered": class_columns(options)}
            metrics.covariate_association(scored_columns(adata, columns, options.donor_key, **kinds))
    if condition:
        _check_ends(adata, options)
    passed = ("beta", "objective", "n_latent", "condition_on_batch", "gene_likelihood")
    arguments = {name: getattr(options, name) for name in passed}
    return BetaVAE(adata, objective_kwargs=dict(options.objective_arg) or None, anchor=anchor_of(options), **arguments)


def _check_ends(adata: AnnData, options: Namespace) -> None:
    """Refuse a source or a target that no cell has."""
    from scbetavae._core.checks import check_choice
    from scbetavae._core.columns import class_name

    values = [class_name(value) for value in adata.obs[options.condition].dropna().unique()]
    for name in ("source", "target"):
        if getattr(options, name) is not None:
            check_choice(getattr(options, name), values, f"--{name}")
    if (options.source is None) != (options.target is None):
        msg = "--source and --target belong together: give both, or neither."
        raise ValueError(msg)


def _fit(model: BetaVAE, options: Namespace, progress: Progress) -> float:
    """Train, and return the seconds it took."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from scbetavae.cli._console import StepProgress
    from scbetavae.model import TrainingDivergedError

    started = time.perf_counter()
    mistakes = errors.users_mistakes(ValueError, MisconfigurationException, TrainingDivergedError)
    passed = ("max_epochs", "max_steps", "batch_size", "early_stopping", "accelerator")
    arguments = {name: getattr(options, name) for name in passed} | {"beta_schedule": options.schedule}
    # About twenty validations per run on held-out cells, a tenth, as each costs time.
    n_cells = max(round(0.9 * cast("AnnData", model.adata).n_obs), 1)
    n_steps = options.max_steps or 15 * math.sqrt(n_cells)  # the default length, nearly
    n_epochs = options.max_epochs or n_steps / math.ceil(n_cells / options.batch_size)
    arguments["check_val_every_n_epoch"] = 1 if options.early_stopping else max(int(n_epochs // 20), 1)
    # Our progress bar replaces theirs; scvi-tools prints a line of its own when training ends early.
    with errors.stops_of_lightning(), mistakes, redirect_stdout(StringIO()):
        model.train(**arguments, simple_progress_bar=False, callbacks=[StepProgress(progress)])
    return time.perf_counter() - started


def _save(adata: AnnData, model: BetaVAE, out: Path) -> None:
    """Write the model, and the cells with their latent representation, in one step; outputs of an earlier run go."""
    from scbetavae.cli._layout import ZEROED_KEYS

    for name in (_keys.LATENT_ZEROED, *ZEROED_KEYS):  # of an earlier model, whose results the training has removed
        adata.obsm.pop(name, None)
    failed: Exception | None = None
    with errors.users_mistakes(OSError), staged_folder(out) as folder:
        model.save(str(folder / MODEL))
        try:
            adata.obsm[_keys.LATENT] = model.get_latent_representation()
            adata.write_h5ad(folder / CELLS, compression=_COMPRESSION)
        except Exception as error:  # noqa: BLE001 - after any error, such as a full disk, the model is kept
            failed = error
            (folder / CELLS).unlink(missing_ok=True)
    # Results of an earlier run describe another model.
    for name in set(OUTPUTS) - ({MODEL} if failed else {MODEL, CELLS}):
        (out / name).unlink(missing_ok=True)
    remove_empty(out)
    if failed is not None:
        msg = f"the cells could not be written ({errors.reason_of(failed)}); the trained model is in {out / MODEL}/."
        raise errors.CommandError(msg) from failed


def _report_model(model: BetaVAE, options: Namespace) -> None:
    """The line of the report about the model."""
    strength = [f"{name} {value}" for name, value in options.objective_arg]
    if uses_beta(options.objective):
        module: Any = model.module
        beta = module.beta if isinstance(options.schedule, str) else options.schedule
        strength.insert(0, f"beta {beta:g}")
    if options.schedule != "linear" and isinstance(options.schedule, str):
        strength.append(f"{options.schedule} schedule")
    anchor: Any = model.module.anchor
    anchored = [] if anchor is None else [f"{anchor.kind} anchor"]
    shape = [f"{options.n_latent} latent dimensions", *anchored, f"{options.gene_likelihood} likelihood"]
    line("model", ", ".join([options.objective, *strength, *shape]))


def _report(adata: AnnData, model: BetaVAE, seconds: float, lines: list[tuple[str, str]]) -> None:
    """The lines of the report that follow the training."""
    from scbetavae.cli._summary import describe_training

    line("training", describe_training(adata.uns[_keys.UNS], model, seconds))
    for title, text in lines:
        line(title, text)
