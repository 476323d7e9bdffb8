"""The outside world, one thing a module: DNS, HTTPS, the database, systemd."""
