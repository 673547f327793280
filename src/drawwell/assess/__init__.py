"""Pure: statistical assessment of bytes. Never on the path from device to consumer."""
