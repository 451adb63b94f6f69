"""Every SQL statement of the application. Functions take a Connection and never commit."""
