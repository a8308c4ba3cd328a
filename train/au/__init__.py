"""Facial action units from pictures: multi-label co-regularization, from rendered faces or a user's own data."""
