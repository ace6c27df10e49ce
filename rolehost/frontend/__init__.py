"""The front end: pages that work without JavaScript, and a JSON API. It is a role, hosted like any other."""
