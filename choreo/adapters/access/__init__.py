"""Credentials of the REST view's callers: `api_keys` in a file, `tokens` of an OpenID Connect provider.

`key_set` gets the provider's public keys.
"""
