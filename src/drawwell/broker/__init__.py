"""The decision about a draw: quota, accounts, queue, supply, audit."""
