"""Plain scripts of the same work as a training job, each a process of its own that ends with a line of JSON."""
