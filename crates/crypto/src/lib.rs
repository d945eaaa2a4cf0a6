//! keyferry_kmip::Crypto over ring
