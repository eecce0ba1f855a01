"""Access for other programs and people: REST, later the web page. Surfaces translate; the use cases stand in `app`."""
