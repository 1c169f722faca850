"""Reading of files: archives and lists, class folders, pictures, the cache of what was read, downloads."""
