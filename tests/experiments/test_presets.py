"""Every experiment has the presets that its users expect, and each is a good Config."""

import dataclasses
import functools

import pytest

from ntkreg import sweep
from ntkreg.experiments import _experiment, _report


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


# Their whole smoke runs are slow, in tests of their own.
COSTLY = ("finite_width", "lambda_path", "noisy_flow", "teacher", "transition")


@pytest.mark.parametrize("name", COSTLY)
def test_a_point_of_a_costly_experiment_runs(name):
    experiment = _report.experiment(name)
    config = experiment.preset("smoke")
    run = functools.partial(experiment.run, experiment.prepare(config))
    point = experiment.points(config)[0]
    (row,) = sweep(
        run, [point], static_argnames=experiment.static, host=experiment.is_host
    ).itertuples()
    assert row.failed == "" and len(row) > len(point) + 2


@pytest.mark.parametrize("name", _report.EXPERIMENTS)
def test_help_says_what_every_flag_is(name):
    experiment = _report.experiment(name)
    about = _experiment.meanings(experiment.config)
    assert list(about) == [field.name for field in dataclasses.fields(experiment.config)]
    assert "of Config" not in about.values()
