"""What the presets ask of a machine, counted before anything runs."""

import dataclasses
import importlib

import pytest

from ntkreg.experiments import _report, configs

# JAX takes three quarters of a card's 80 GB.
LAPTOP, CARD = 8e9, 60e9


@pytest.mark.parametrize("name", _report.EXPERIMENTS)
def test_presets_fit_the_machines_that_they_are_for(name):
    experiment = importlib.import_module(f"ntkreg.experiments.{name}")
    assert {"smoke", "laptop", "full"} <= set(experiment.PRESETS) <= {"smoke", *_report.PRESETS}
    if hasattr(experiment, "EXPERIMENT"):  # whose memory is counted where it is compiled
        assert all(experiment.EXPERIMENT.preset(preset) for preset in experiment.PRESETS)
        return
    for preset in experiment.PRESETS:
        config, available = experiment.Config.preset(preset), CARD if preset == "full" else LAPTOP
        if name == "practice":  # MNIST and CIFAR-10 must be named by the user
            config = dataclasses.replace(config, datasets=("digits",))
        grid = experiment.grid(config)
        assert (
            0 < max(configs.memory_by_shape(config, grid, experiment.memory).values()) < available
        )
