"""One module per claim: Config, cell, run, claim, figure."""
