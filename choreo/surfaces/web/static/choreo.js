// The page's own script: small helps on top of pages that work without it.
