"""When a job is due: pure functions of a trigger, the last run and the time."""
