"""The machine we run on: kernel, state on disk, signals, privileges."""
