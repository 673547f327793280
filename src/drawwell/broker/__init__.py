"""The decision about a draw: accounts, quota, queue, supply and audit."""
