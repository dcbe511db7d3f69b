"""Ray and the command line: spreads the pipeline's work over processes and machines."""
