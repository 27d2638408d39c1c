"""Configuration: what users write, checked and brought into plain records. Pure; touches nothing but ``os.environ``."""
