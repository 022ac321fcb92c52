"""Speech provider fallback for a fleet of voice agents."""
