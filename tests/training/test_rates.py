"""Learning rates by the size of the model."""

import pytest
from tiny import save, tiny_model

from cwpo.training.rates import parameters_of, rate_for


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [(7e9, 1e-5), (1.25e8, 1e-5), (1.25e7, 4e-5), (1.25e6, 1.6e-4), (260_032, 4.1e-4), (1e4, 5e-4)],
)
def test_smaller_models_get_higher_rates_within_bounds(parameters, rate):
    assert rate_for(1e-5, int(parameters)) == pytest.approx(rate)


def test_parameters_are_counted_without_weights(tmp_path):
    model = tiny_model("llama")
    folder = save(model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert parameters_of(folder) == sum(parameter.numel() for parameter in model.parameters())
