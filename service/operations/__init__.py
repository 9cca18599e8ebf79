"""What can be done, in words of the product: validation, store and event in one place; no HTTP, no SQL."""
