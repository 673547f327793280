"""Pure: blocks, health tests, conditioning, reservoir, ledger, quota. No clock, file, socket, log or random call."""
