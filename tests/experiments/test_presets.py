"""Every experiment has the presets that its users expect, and each is a good Config."""

import dataclasses

import pytest

from ntkreg.experiments import _report


@pytest.mark.parametrize("name", _report.EXPERIMENTS)
def test_every_preset_is_a_config_with_points(name):
    experiment = _report.experiment(name)
    assert {"smoke", "laptop", "full"} <= set(experiment.presets) <= {"smoke", *_report.PRESETS}
    for preset in experiment.presets:
        config = experiment.preset(preset)
        if name == "practice":  # MNIST and CIFAR-10 must be named by the user
            config = dataclasses.replace(config, datasets=("digits",))
        points = experiment.points(config)
        assert points and all(point.keys() == points[0].keys() for point in points)
