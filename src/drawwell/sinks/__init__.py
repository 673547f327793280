"""The sinks of a consumer: kernel, FIFO, file, standard output."""
