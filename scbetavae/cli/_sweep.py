"""The command ``scbetavae sweep``: what it does, in order."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from scbetavae.cli._arguments import anchor_of
from scbetavae.cli._errors import CommandError, TerminatedError, stops_of_lightning, terminable, users_mistakes
from scbetavae.cli._io import load_cells, report_cells, set_up
from scbetavae.cli._outputs import NOT_MADE, Outputs, line
from scbetavae.cli._progress import Progress
from scbetavae.cli._sweep_arguments import PICTURE, TABLE, TRADEOFF, WORDS


def run(options: Namespace) -> int:
    """Sweep the file, or the bundled cells; write the table, the recommendation and the plots."""
    progress = Progress()
    progress.show("loading")
    from scbetavae.cli._console import quiet_libraries

    with quiet_libraries(progress), terminable():
        try:
            table = _sweep(options, progress)
            progress.clear()
            runs = table.drop_duplicates("run")
            failed = runs[runs["status"] == "failed"]
            line("runs", f"{len(runs) - len(failed)} done, {len(failed)} failed")
            for run, error in zip(failed["run"], failed["error"], strict=True):
                print(f"  {run}: {error}")
            outputs = _write(table, options)
        except (KeyboardInterrupt, TerminatedError) as stop:
            msg = f"finished runs are in {options.out}, and the same command resumes from there"
            raise type(stop)(msg) from stop
    line("written to", f"{options.out}/: {', '.join([TABLE, *outputs.made, *outputs.write_reasons()])}, runs/")
    return outputs.exit_code(options.out, strict=options.strict)


def _sweep(options: Namespace, progress: Progress) -> Any:
    """Read the cells and do every run."""
    from scbetavae.sweep import beta_sweep

    adata = load_cells(options)
    with users_mistakes(OSError, KeyError, TypeError, ValueError, ModuleNotFoundError), stops_of_lightning():
        set_up(adata, options)
        if not options.covariates:
            msg = "no column was named to score against: --covariates cell_type,donor, or --batch-key and --labels-key."
            raise ValueError(msg)
        progress.clear()
        report_cells(adata, options, " sweep")
        betas = ", ".join(f"{beta:g}" for beta in options.betas)
        line("grid", f"{', '.join(options.objective)}; beta {betas}; {options.seeds} seeds")
        line("scores", f"against {', '.join(options.covariates)}")
        return beta_sweep(adata, options.betas, **_arguments(options, progress))


def _arguments(options: Namespace, progress: Progress) -> dict[str, Any]:
    """Arguments of ``beta_sweep``."""
    from scbetavae.sweep import SweepOptions

    model = {name: getattr(options, name) for name in ("n_latent", "condition_on_batch", "gene_likelihood")}
    train = {name: getattr(options, name) for name in ("max_epochs", "max_steps", "batch_size", "accelerator")}

    def show(state: object) -> None:
        """On a terminal one line that is replaced, in a log one line per run."""
        if progress.is_live:
            progress.show(str(state))
        else:
            print(state, file=sys.stderr, flush=True)

    ray = {"num_gpus": options.num_gpus} | ({} if options.address is None else {"address": options.address})
    return {
        "covariates": options.covariates,
        "out_dir": options.out,
        "objective": options.objective,
        "seeds": range(options.seeds),
        "n_jobs": options.jobs,
        "options": SweepOptions(
            model_kwargs=model | {"anchor": anchor_of(options)},
            train_kwargs=train | {"beta_schedule": options.schedule},
            score_kwargs={"donor_key": options.donor_key},
            baselines=options.baselines,
            ray=ray if options.engine == "ray" else None,
            num_threads=options.threads,
            save_models=options.save_models,
            progress=show,
        ),
    }


def _write(table: Any, options: Namespace) -> Outputs:
    """Write the recommendation and the plots, each separately: the runs and their table are there already."""
    from scbetavae import pl
    from scbetavae.sweep import recommend_beta

    models = table[table["kind"] == "model"]
    if not (models["status"] == "done").any():
        msg = f"all models failed, the first with: {models['error'].iloc[0]}"
        raise CommandError(msg, 3)
    for name in (WORDS, PICTURE, TRADEOFF, NOT_MADE):  # of the sweep when it had fewer runs
        (options.out / name).unlink(missing_ok=True)
    outputs = Outputs(options.out.joinpath, debug=options.debug)
    words = outputs.compute("advice", [WORDS], lambda: recommend_beta(table, options.score).reason)
    if words is not None:
        outputs.write(WORDS, lambda path: path.write_text(f"{words}\n"))
    outputs.picture(PICTURE, pl.beta_sweep, table)
    outputs.picture(TRADEOFF, pl.tradeoff, table, options.score)
    return outputs
