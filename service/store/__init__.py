"""Where jobs, events, deliveries and secrets are kept: `base.Store` is the interface, `sqlite` the one store."""
