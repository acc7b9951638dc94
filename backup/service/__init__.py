"""Running as a service: what systemd or cron is told, whom that concerns, and carrying it out."""
