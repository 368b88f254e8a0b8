"""The Autobahn test suite against our server and our client, on both backends: `make conformance`."""
