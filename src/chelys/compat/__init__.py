"""For programs that were written for other packages: their interfaces over chelys."""
