//! Export files
