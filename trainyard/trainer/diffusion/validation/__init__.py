"""Pictures made while training goes on, so that people see what it learns."""
