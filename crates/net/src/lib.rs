//! Mutual TLS for KMIP: server, client and drivers
