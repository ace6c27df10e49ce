"""Addresses, public ports, and the relay between them."""
