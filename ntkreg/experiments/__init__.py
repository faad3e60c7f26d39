"""What they show: one file an experiment, or a folder where it is long.

`_experiment` makes a command of Config, presets, run, claims and figure; `_report` and `_paper`
make pages of what the commands left.
"""
