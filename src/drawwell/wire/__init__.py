"""Protocols without I/O: sessions, TLS, HTTP, EGD, enrolment, usbredir."""
