"""Signing and credentials: pure, without clock, socket or event loop of their own."""
