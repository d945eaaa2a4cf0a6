use keyferry_kmip::Identity;
use std::collections::BTreeSet;

/// Which clients may use this server. Closed by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// No client at all; peers are another matter, see [`keyferry_s2s::Policy`].
    #[default]
    Closed,
    /// Those with these names in their TLS certificates.
    Named(BTreeSet<String>),
    /// Every client whose certificate the server's certification authority has signed.
    Authenticated,
}

impl Access {
    /// Whether this one may.
    pub fn allows(&self, identity: &Identity) -> bool {
        match self {
            Access::Closed => false,
            Access::Named(names) => names.contains(&identity.name),
            Access::Authenticated => true,
        }
    }
}
