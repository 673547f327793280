"""The process as a service: systemd, supervisor, journal, status line."""
