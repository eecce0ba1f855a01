"""The doors for other programs and people: REST, later the web page. They translate; the use cases stand in app."""
