"""In practice: networks against their exact kernels on digits, MNIST and CIFAR-10.

    uv run launch/practice.py                   # two to four minutes on two cores: digits alone
    uv run launch/practice.py --preset=thorough # five to nine
    uv run launch/practice.py --preset=smoke    # seconds
    uv run launch/practice.py --datasets=mnist --folder=FOLDER --out=/tmp/mnist

FOLDER holds mnist.npz and cifar10.npz: x, integers 0 … 255 of shape (n, 28, 28) or (n, 32, 32, 3),
and y, the classes 0 … 9. With --folder=openml they are fetched from there, never otherwise.

Writes summary.csv (one row per network or kernel), run.json, figure.png and figure.pdf to
results/practice/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, practice

if __name__ == "__main__":
    _experiment.main(practice.EXPERIMENT)
