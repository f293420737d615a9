"""The order in which jobs start, and the repair of jobs that are stuck between two stages."""
