"""The command line. See docs/cli.md; it needs click, which is imported here and nowhere else."""
