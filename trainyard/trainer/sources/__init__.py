"""Where data and models come from and results go to: URIs, downloads kept for all jobs, uploads."""
