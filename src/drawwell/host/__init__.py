"""Facts about the machine: kernel, clock, memory, virtualisation, devices."""
