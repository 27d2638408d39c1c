"""The file system of fsspec, in parts: paths, listings, transfers of many, files. `obstore.fsspec` puts them together."""
