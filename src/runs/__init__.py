"""The folder of a run, its report, the ledger of all runs."""
