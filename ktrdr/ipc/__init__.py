"""HTTP over a Unix socket between our programs: messages, their codec, server and client."""
