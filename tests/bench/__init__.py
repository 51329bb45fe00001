"""Speed of the hot paths beside what a user would take instead: `make bench`. Not collected by pytest."""
