"""What people bring in: registry files, outputs, accounts. Each function is one validated, audited change."""
