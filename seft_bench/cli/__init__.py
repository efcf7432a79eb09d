"""Groups of commands that `cli` mounts, and what they print; each command reads its options and calls one function."""
