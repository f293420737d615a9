"""What callers use: the client, its uploads and signatures, and how it finds a deployment."""
