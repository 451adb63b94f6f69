"""From the broker to the database: a reading is acknowledged after it is committed, and never before."""
