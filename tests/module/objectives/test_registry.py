"""Objectives by name and by class: those of the package, and one from outside."""

import numpy as np
import pytest

import scbetavae
from scbetavae.model import BetaVAE
from scbetavae.module import OBJECTIVES, Objective, register_objective, resolve_objective

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.mark.parametrize(
    ("objective", "message"),
    [("beta_tcave", "Did you mean 'beta_tcvae'"), ("vae2000", "Choose from 'beta_tcvae'"), (3, "Choose from")],
)
def test_unknown_objectives_name_the_nearest(objective, message):
    with pytest.raises(ValueError, match=message):
        resolve_objective(objective)


def test_the_default_depends_on_the_latent_distribution():
    assert resolve_objective(None) == ("beta_tcvae", 2.0)
    assert resolve_objective(None, latent_distribution="ln") == ("beta_vae", 2.0)


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        ("capacity", {"gama": 1}, r"'gama'. Did you mean 'gamma'.*'capacity', 'gamma'"),
        ("beta_vae", {"gamma": 1}, "It takes none"),
        ("dip_vae_i", {"n_latent": 4}, "has no argument 'n_latent'"),
        ("factor_vae", {"width": 4}, "n_hidden"),
    ],
)
def test_misspelt_arguments_are_refused_with_the_allowed_ones(objective, arguments, message):
    with pytest.raises(TypeError, match=message):
        resolve_objective(objective, objective_kwargs=arguments)
    with pytest.raises(TypeError):
        OBJECTIVES[objective](3, **{name: value for name, value in arguments.items() if name != "n_latent"} or {"x": 1})


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        ("capacity", {"gamma": -1}, r"objective_kwargs\['gamma'\]=-1"),
        ("capacity", {"capacity": float("nan")}, r"objective_kwargs\['capacity'\]=nan"),
        ("capacity", {"capacity": None}, r"objective_kwargs\['capacity'\]=None"),
        ("dip_vae_i", {"lambda_od": "10"}, r"objective_kwargs\['lambda_od'\]='10'"),
        ("dip_vae_ii", {"lambda_d": -2}, r"objective_kwargs\['lambda_d'\]=-2"),
        ("dip_vae_ii", {"momentum": 0}, r"momentum.*in \(0, 1\]"),
        ("dip_vae_ii", {"momentum": 1.1}, r"momentum.*in \(0, 1\]"),
        ("dip_vae_ii", {"momentum": float("nan")}, "momentum"),
        ("factor_vae", {"gamma": -1}, r"objective_kwargs\['gamma'\]=-1"),
        ("factor_vae", {"n_layers": 0}, "n_layers.*at least 1"),
        ("factor_vae", {"n_hidden": 0}, "n_hidden.*at least 1"),
        ("beta_tcvae", {"estimator": "mmd"}, "Choose from 'mss', 'mws'"),
    ],
)
def test_values_out_of_range_are_refused(objective, arguments, message):
    with pytest.raises(ValueError, match=message):
        resolve_objective(objective, objective_kwargs=arguments)
    with pytest.raises(ValueError, match=message):
        OBJECTIVES[objective](3, **arguments)


@pytest.mark.parametrize("objective", ["beta_tcvae", "factor_vae"])
def test_a_simplex_has_no_independence_to_ask_for(objective):
    assert OBJECTIVES[objective].needs_gaussian_posterior
    with pytest.raises(ValueError, match="simplex"):
        resolve_objective(objective, latent_distribution="ln")


def test_factor_vae_needs_a_gamma_of_at_least_zero():
    with pytest.raises(ValueError, match="'gamma'"):
        resolve_objective("factor_vae", 0.5)
    assert resolve_objective("factor_vae", 0.5, {"gamma": 2}) == ("factor_vae", 0.5)
    assert OBJECTIVES["factor_vae"](3, gamma=2).gamma == 2.0


def test_defaults_follow_the_papers():
    assert OBJECTIVES["dip_vae_i"](3, lambda_od=5).lambda_d == 50
    assert OBJECTIVES["dip_vae_ii"](3, lambda_od=5).lambda_d == 5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_beta_has_a_default_where_there_is_a_beta(objective):
    has_beta = objective in ("beta_vae", "beta_tcvae", "factor_vae")
    assert resolve_objective(objective) == (objective, 2.0 if has_beta else 1.0)
    assert resolve_objective(objective, np.float32(1.0)) == (objective, 1.0)
    if has_beta:
        assert resolve_objective(objective, 0.5, {"gamma": 1} if objective == "factor_vae" else None)[1] == 0.5
    else:
        with pytest.raises(ValueError, match=r"has no beta, but beta=0.5 was given"):
            resolve_objective(objective, 0.5)


def test_an_objective_from_outside_trains_by_name(toy, counts_adata, tmp_path):
    BetaVAE.setup_anndata(counts_adata, batch_key="batch")
    model = BetaVAE(counts_adata, objective="toy", beta=3.0, objective_kwargs={"weight": 2.0}, n_hidden=16, n_latent=3)
    assert isinstance(model.module.regularizer, toy)
    model.train(max_epochs=2, check_val_every_n_epoch=1, **QUIET)
    history = counts_adata.uns["betavae"]["history"]
    assert {"distance_train", "distance_validation"} <= set(history)
    last = history.iloc[-1]
    assert last["objective_train"] == pytest.approx(
        last["nll_train"] + 3 * last["kl_train"] + 2 * last["distance_train"], rel=1e-4
    )
    assert counts_adata.uns["betavae"]["params"]["objective"] == "toy"
    titles = [axes.get_title() for axes in scbetavae.pl.history(counts_adata).axes]
    assert "Distance of the means from 0" in titles
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", counts_adata, accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-6)


def test_it_is_listed_in_errors_and_its_arguments_are_checked(toy):
    with pytest.raises(ValueError, match=r"Did you mean 'toy'.*'toy'"):
        resolve_objective("toyy")
    with pytest.raises(ValueError, match=r"objective_kwargs\['weight'\]=-1"):
        resolve_objective("toy", objective_kwargs={"weight": -1})
    with pytest.raises(ValueError, match="Choose from 'square', 'absolute'"):
        resolve_objective("toy", objective_kwargs={"kind": "cubic"})
    with pytest.raises(TypeError, match=r"Did you mean 'weight'"):
        resolve_objective("toy", objective_kwargs={"wieght": 1})


def test_the_fixture_unregisters_it():
    with pytest.raises(ValueError, match="objective='toy' is not allowed"):
        resolve_objective("toy")


def test_a_class_is_registered_and_stored_by_its_name(toy, counts_adata):
    OBJECTIVES.pop("toy")
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, objective=toy, n_hidden=16, n_latent=3).train(max_steps=2, **QUIET)
    assert OBJECTIVES["toy"] is toy
    assert model._arguments["non_kwargs"]["objective"] == "toy"
    assert "objective: toy" in str(model._model_summary_string)


def test_what_cannot_be_registered_is_refused(toy):
    assert register_objective(toy) is toy
    with pytest.raises(TypeError, match=r"is not an objective. Pass a subclass"):
        register_objective("toy")
    with pytest.raises(TypeError, match="is not an objective"):
        register_objective(dict)
    with pytest.raises(ValueError, match=r"Set the class attribute `name`"):
        register_objective(Objective)
    with pytest.raises(ValueError, match=r"name='beta_vae' is the name of scbetavae.*Choose another name"):
        register_objective(type("Mine", (Objective,), {"name": "beta_vae"}))
    with pytest.raises(ValueError, match="Choose another name"):
        register_objective(type("Toy", (Objective,), {"name": "toy"}))


def test_a_class_defined_again_in_a_notebook_replaces_the_earlier_one(toy):
    toy.__module__ = "__main__"
    again = register_objective(type("Toy", (Objective,), {"name": "toy", "__module__": "__main__"}))
    assert OBJECTIVES["toy"] is again
