//! The semantics of the KMIP operations
