"""Pure: blocks, health tests, conditioning, reservoir, ledger, quota."""
