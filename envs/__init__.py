"""The environment and the table of registered ids."""
