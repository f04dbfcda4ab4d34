"""What several test files and tools share."""
