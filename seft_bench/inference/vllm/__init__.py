"""vLLM as a program of its own: its environment, its process, the server that it runs, and a client for that."""
