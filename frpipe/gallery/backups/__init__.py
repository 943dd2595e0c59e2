"""Backups of a gallery: taken, listed, checked, removed and restored. See ADR 51."""
