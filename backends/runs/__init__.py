"""What every backend whose runs live in a job folder shares: their claim, their events, their end, their commands."""
