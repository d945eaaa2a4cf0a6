//! The s2s responder: which function answers which operation.

use crate::ask::{Answered, Ask, Responder};
use crate::node::Node;
use crate::receive::export::export;
use crate::receive::{import, notify};
use crate::wire::copy;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Failure, Identity, RequestItem};

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
        let peer = self.acting_peer(ask);
        let caller = peer.as_ref().unwrap_or(ask.caller);
        let mut ask = ask.asked_by(caller);
        let answered = copy::check_extensions(&item.message_extensions)
            .and_then(|()| answer(self, &mut ask, item))
            .and_then(|mut answered| {
                self.spread_compromise(ask.snapshot, ask.now.wall, &mut answered.effects)?;
                Ok(answered)
            })
            .inspect_err(|failure| self.refusals.count(failure));
        Some(answered)
    }
}

impl Node {
    /// As whom a peer asks: what only peers do, it does as a peer, and everything if it is no client besides ([rule F](crate::design#rule-f)).
    fn acting_peer(&self, ask: &Ask<'_>) -> Option<Identity> {
        let is_for_peers = matches!(ask.operation, Operation::PUT | Operation::NOTIFY);
        self.policy
            .peer(ask.tls)
            .filter(|_| is_for_peers || !ask.is_client)
            .map(|peer| Identity::peer(&peer.server))
    }
}

/// The standard operations that the s2s responder answers, for a server's Query.
pub const RESPONDER_OPERATIONS: &[Operation] = &[
    Operation::IMPORT,
    Operation::EXPORT,
    Operation::PUT,
    Operation::NOTIFY,
];
