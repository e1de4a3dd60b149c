"""Datanets: sovereign, domain-specific communities for data."""
