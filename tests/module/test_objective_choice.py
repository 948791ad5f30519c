import numpy as np
import pytest

from scbetavae.module import check_beta, make_regularizer

OBJECTIVES = ["beta_vae", "beta_tcvae", "capacity", "dip_vae_i", "dip_vae_ii", "factor_vae"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_name_is_an_objective(objective):
    assert make_regularizer(objective, 3).name == objective


@pytest.mark.parametrize(
    ("objective", "message"),
    [("beta_tcave", "Did you mean 'beta_tcvae'"), ("vae2000", "Take one of"), (None, "Take one of")],
)
def test_unknown_objectives_name_the_nearest(objective, message):
    with pytest.raises(ValueError, match=message):
        make_regularizer(objective, 3)


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        ("capacity", {"gama": 1}, r"'gama', which objective='capacity' does not take. Did you mean 'gamma'.*capacity"),
        ("beta_vae", {"gamma": 1}, "It takes none: its strength is beta"),
        ("dip_vae_i", {"n_latent": 4}, "does not take"),
        ("factor_vae", {"width": 4}, "n_hidden"),
    ],
)
def test_misspelt_arguments_are_refused_with_the_allowed_ones(objective, arguments, message):
    with pytest.raises(TypeError, match=message):
        make_regularizer(objective, 3, arguments)


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        ("capacity", {"gamma": -1}, "gamma=-1 in objective_kwargs"),
        ("capacity", {"capacity": float("nan")}, "capacity=nan"),
        ("dip_vae_i", {"lambda_od": "10"}, "lambda_od='10'"),
        ("dip_vae_ii", {"lambda_d": -2}, "lambda_d=-2"),
        ("dip_vae_ii", {"momentum": 0}, "momentum"),
        ("factor_vae", {"gamma": -1}, "gamma=-1"),
        ("factor_vae", {"n_layers": 0}, "n_layers"),
        ("beta_tcvae", {"estimator": "mmd"}, "Take one of"),
    ],
)
def test_values_out_of_range_are_refused(objective, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_regularizer(objective, 3, arguments)


@pytest.mark.parametrize("objective", ["beta_tcvae", "factor_vae"])
def test_codes_on_a_simplex_have_no_independence_to_ask_for(objective):
    with pytest.raises(ValueError, match="simplex"):
        make_regularizer(objective, 3, latent_distribution="ln")


def test_factor_vae_needs_a_gamma_of_at_least_zero():
    with pytest.raises(ValueError, match="'gamma'"):
        make_regularizer("factor_vae", 3, beta=0.5)
    assert make_regularizer("factor_vae", 3, {"gamma": 2}, beta=0.5).gamma == 2.0


def test_defaults_follow_the_papers():
    first, second = (
        make_regularizer("dip_vae_i", 3, {"lambda_od": 5}),
        make_regularizer("dip_vae_ii", 3, {"lambda_od": 5}),
    )
    assert first.lambda_d == 50
    assert second.lambda_d == 5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_beta_has_a_default_where_there_is_a_beta(objective):
    has_beta = objective in ("beta_vae", "beta_tcvae", "factor_vae")
    assert check_beta(None, objective) == (2.0 if has_beta else 1.0)
    assert check_beta(np.float32(1.0), objective) == 1.0
    if has_beta:
        assert check_beta(0.5, objective) == 0.5
    else:
        with pytest.raises(ValueError, match=r"has no beta, but beta=0.5 was given"):
            check_beta(0.5, objective)
