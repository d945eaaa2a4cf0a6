//! [`SystemRandom`], the operating system as a source of randomness.

use keyferry_kmip::{Random, RandomFailed};
use ring::rand::SecureRandom;

/// The operating system's randomness.
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The source. Making one costs nothing.
    pub fn new() -> Self {
        SystemRandom(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        SystemRandom::new()
    }
}

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed> {
        self.0.fill(out).map_err(|_| RandomFailed)
    }
}
