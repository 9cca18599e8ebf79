"""What can be said of a text job before it trains: by itself, or as a phase of every job."""
