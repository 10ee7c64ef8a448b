"""Where many runs are made: this process, processes beside it, a Ray cluster."""
