"""What came of runs, as one page that needs nothing beside it."""
