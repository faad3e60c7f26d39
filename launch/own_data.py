"""Your own arrays, and network, on the λ-path: norm, margins, errors, and the optimizer's residual.

    uv run launch/own_data.py --data=FILE.npz [--depth=2 --width=100]
    uv run launch/own_data.py --data=FILE.npz --module=package.module:Class

FILE.npz holds x, floats of shape (n, d), and y of shape (n,), ±1 or class indices 0 … k − 1; and
if you like x_test and y_test. Class is a Flax module, linen or nnx, found from here, homogeneous
and with one output for ±1, k for classes. Further flags: preset, num_seeds, lams, num_steps,
finish_steps, learning_rate.

Writes summary.csv (one row per start and λ), run.json, figure.png and figure.pdf to
results/own_data/FILE. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, own_data

if __name__ == "__main__":
    _experiment.main(own_data.EXPERIMENT)
