"""Where a consumer pours: kernel, FIFO, file, standard output."""
