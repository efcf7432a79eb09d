"""Pure statistics on numpy arrays: no files, no network, no clock."""
