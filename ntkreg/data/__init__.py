"""What is learned from: samples of the paper's D and others, images, groups, files, checks."""

from ntkreg.data import groups
from ntkreg.data.dataset import (
    Dataset,
    check_dataset,
    digits,
    gaussian_parity,
    halfspace,
    noisy_xor,
    noisy_xor_population,
    random_labels,
    relu_feature,
    split,
    teacher,
    unseen,
)
from ntkreg.data.image_data import IMAGES, images
from ntkreg.data.named import load

__all__ = [
    "IMAGES",
    "Dataset",
    "check_dataset",
    "digits",
    "gaussian_parity",
    "groups",
    "halfspace",
    "images",
    "load",
    "noisy_xor",
    "noisy_xor_population",
    "random_labels",
    "relu_feature",
    "split",
    "teacher",
    "unseen",
]
