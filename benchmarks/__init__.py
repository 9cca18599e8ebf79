"""How fast the service is, always as a ratio to something bare that ran in the same minutes (see README.md)."""
