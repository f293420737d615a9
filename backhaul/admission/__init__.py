"""Which job starts when, and what puts right a job that fell between two stages."""
