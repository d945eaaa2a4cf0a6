//! The KMIP object and attribute model, 1.0 to 2.1
