"""One file per stage, in the order of the data: rollup, account, benchmark, alert, deliver."""
