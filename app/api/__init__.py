"""HTTP resources under /api/v1, one file each: the router with its request and response models."""
