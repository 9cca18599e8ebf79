"""Where jobs run: a folder a backend, found through entry points by `registry`."""
