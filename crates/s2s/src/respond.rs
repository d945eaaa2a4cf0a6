//! The s2s responder: which function answers which operation.

use crate::ask::{Answered, Ask, Responder};
use crate::node::Node;
use crate::receive::export::export;
use crate::receive::{import, notify};
use crate::wire::copy;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Failure, RequestItem};

/// The s2s responder answers Import, Export, Put and Notify, and the operations by which keyferry servers follow each other.
impl Responder for Node {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let answer = match item.operation {
            Operation::IMPORT => import::import,
            Operation::PUT => import::put,
            Operation::NOTIFY => notify::notify,
            Operation::EXPORT => export,
            crate::wire::follow::FOLLOW => crate::follow::issuer::follow,
            crate::wire::follow::GIVE_BACK => crate::receive::give_back::give_back,
            _ => return None,
        };
        Some(
            copy::check_extensions(&item.message_extensions).and_then(|()| answer(self, ask, item)),
        )
    }
}

/// The standard operations that the s2s responder answers, for a server's Query.
pub const RESPONDER_OPERATIONS: &[Operation] = &[
    Operation::IMPORT,
    Operation::EXPORT,
    Operation::PUT,
    Operation::NOTIFY,
];
