# Cases of the command line, runs and rewards. Sourced by run.sh, which says how a case is written.
