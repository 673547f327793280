"""Pure: DRBG, receipts, certificates; not loaded by privileged processes."""
