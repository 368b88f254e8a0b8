"""What is fast here and what is not: one file a question; peers.py and servers.py hold who else is asked."""
