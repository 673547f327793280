"""Test doubles for our tests and yours: faulty sources, virtual time."""
