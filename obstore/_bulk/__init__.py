"""Transfers of many objects: what to transfer, what goes into the C core, what is done beside it. See README.md."""
