"""The store classes, one file each; `obstore.store` is where users find them."""
