"""Official tables as CSV, each row with its source, edition, confidence and date; and their loader."""
