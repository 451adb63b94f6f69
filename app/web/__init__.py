"""Pages for people, rendered on the server from the same queries as the API; nothing comes from another host."""
