//! The hash that bundles are chained by and signing keys are named by: SHA-256.

use ring::digest;

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Running::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.so_far()
}

/// SHA-256 over everything so far.
#[derive(Clone)]
pub(crate) struct Running(digest::Context);

impl Running {
    pub(crate) fn new() -> Running {
        Running(digest::Context::new(&digest::SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn so_far(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(self.0.clone().finish().as_ref()) {
            *to = *from;
        }
        hash
    }
}
