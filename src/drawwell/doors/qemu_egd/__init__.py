"""The door for QEMU's EGD character device."""
