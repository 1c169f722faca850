"""Commands in groups, put together by `ferkit.__main__`. Nothing heavy is imported before a command runs."""
