"""vLLM as a program of its own: where it is installed, its process, the server that it runs, and how it is asked."""
