"""The asyncio layer: the only part of the library that knows asyncio, sockets and TLS."""
