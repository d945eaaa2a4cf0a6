//! The KMIP wire encoding: tag, type, length, value
