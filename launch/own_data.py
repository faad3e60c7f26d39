"""Your own data, and network: what λ does, whether the NTK does as well, and how wide is enough.

    uv run launch/own_data.py --data=FILE [--label=COLUMN]
    uv run launch/own_data.py --data=FILE --module=package.module:Class

FILE is npz, npy, CSV or TSV, libsvm, IDX or parquet, with labels of any usual coding; a table's
label is in its last column unless --label names another. Class is a Flax module, linen or nnx,
found from here, homogeneous, with one output for two classes and k for k. Features are standardised
unless --raw is given; λ is chosen on a validation part, errors are those on a test part.

Writes report.html (the answers, with pictures), summary.csv (one row per model, seed and λ),
run.json, figure.png and figure.pdf to results/own_data/FILE. The same command goes on where an
interrupted one ended.
"""

from ntkreg.experiments import _experiment, own_data

if __name__ == "__main__":
    _experiment.main(own_data.EXPERIMENT)
