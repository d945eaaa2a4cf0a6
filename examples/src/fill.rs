//! Fill.
