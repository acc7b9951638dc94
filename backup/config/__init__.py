"""The configuration: read from files, checked as a whole, told with where each value comes from."""
