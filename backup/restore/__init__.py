"""Getting entries of a snapshot back, below one directory and nowhere else."""
