"""Per-cloud protocol, pure: build a request, read a response. Nothing here waits, connects or starts a thread."""
