//! Twins: objects with the key material of another server's object that is compromised, for an operator to decide about.

use crate::error::Result;
use crate::relation::keys::{self, Entry};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::bytes_of;
use keyferry_store::{ObjectId, Snapshot};
use keyferry_ttlv::{Decode, Encode, Extra};

/// An object that has the key material of a compromised one, and that nobody who says so speaks for: its issuer is another one. It stays as it is;
/// whoever may revoke it decides ([rule 5](crate::design#rule-5)). It is listed until it is compromised itself.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::COMPROMISED_TWIN)]
#[non_exhaustive]
pub struct CompromisedTwin {
    /// The object.
    pub id: ObjectId,
    /// The server that issues the compromised object.
    #[ttlv(tag = x::ISSUER)]
    pub issuer: Text,
    /// The Unique Identifier of the compromised object here.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub of: Text,
    /// When it was found out.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl CompromisedTwin {
    /// All of them, as many as the limit [`twins`](crate::Limits::twins) lets this server keep.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<CompromisedTwin>> {
        stored::all_under(
            snapshot,
            keys::COMPROMISED_TWIN,
            "twin of a compromised object",
        )
    }

    /// A twin of the object with the identifier `of`, which `issuer` issues.
    pub(crate) fn new(id: ObjectId, issuer: Text, of: Text, since: DateTime) -> CompromisedTwin {
        CompromisedTwin {
            id,
            issuer,
            of,
            since,
            extra: Extra::NONE,
        }
    }

    /// Its key and value in the store's state.
    pub(crate) fn entry(&self) -> keyferry_store::Result<Entry> {
        Ok((keys::compromised_twin(&self.id)?, Some(bytes_of(self)?)))
    }
}
