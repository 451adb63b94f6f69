"""How the service is run: containers for production, the same servers without containers for development."""
