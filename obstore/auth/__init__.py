"""Credential providers on top of other libraries: each module's classes go into ``credential_provider`` of a store."""
