"""Pure: DRBG, receipts, certificates: whatever needs AES or a signature. Kept out of privileged processes."""
