"""Commands in groups, named by `ferkit.__main__`. Nothing heavy is imported before a command runs."""
