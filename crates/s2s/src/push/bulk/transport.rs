//! The transport key of a bulk session: it goes before all objects where the wrapping is by RSA.

use crate::error::{Error, ErrorKind, Result};
use crate::material::transport::{TransportKey, ensured};
use crate::node::Node;
use crate::outgoing::item::{SendOptions, conditional_request_item};
use crate::policy::Wrapping;
use crate::push::bulk::answers::result_of_answer;
use crate::push::bulk::{Bulk, Content, Flight};
use crate::session::{SessionContext, Step};
use keyferry_kmip::{RequestItem, RequestMessage, ResponseMessage, Ticket};
use keyferry_store::{SnapshotExt, StoreExt};
use std::sync::Arc;

/// The transport key, under which material goes where the wrapping is by RSA.
pub(super) enum Transport {
    /// There is none: the wrapping is used as it is. So it is, too, when the peer has not taken the key.
    None,
    /// It is to go before all objects.
    Due(Box<TransportKey>),
    /// It is under way.
    Sent(Box<TransportKey>),
    /// The peer has it.
    Ready(Box<(Arc<Node>, Wrapping)>),
}

impl Bulk {
    /// Finds the transport key where the wrapping is by RSA; it is made if there is none.
    pub(super) fn prepare_transport_key(&mut self, cx: &mut SessionContext<'_>) -> Result<()> {
        if let Some((node, under)) = &self.wrapping
            && under.is_rsa()
        {
            self.transport = match ensured(cx.store, node, under, cx.now.wall, &mut *cx.random) {
                Ok(key) => Transport::Due(Box::new(key)),
                // A restored server makes no object before it has taken back what it lost.
                Err(error) if error.kind() == ErrorKind::Relation => Transport::None,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Sends the transport key. Where it can't go, the RSA key itself wraps what is short enough.
    pub(super) fn send_transport_key(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
    ) -> Result<Option<Step>> {
        let item = match self.transport_item(cx) {
            Ok(item) => item,
            Err(error) if error.kind() == ErrorKind::Encode => {
                self.transport = Transport::None;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Transport::Due(key) = std::mem::replace(&mut self.transport, Transport::None) {
            self.transport = Transport::Sent(key);
        }
        let content = Content::Transport;
        self.flights.push_back(Flight { ticket, content });
        let message = RequestMessage::new(self.options.version, vec![item]);
        Ok(Some(Step::Send(Box::new(message))))
    }

    /// The Import of the transport key, wrapped under the RSA key.
    fn transport_item(&self, cx: &SessionContext<'_>) -> Result<RequestItem> {
        let (Transport::Due(key), Some((node, under))) = (&self.transport, &self.wrapping) else {
            return Err(Error::new(ErrorKind::Encode, "there is no transport key"));
        };
        let version = self.options.version;
        let whole = cx
            .store
            .view::<_, Error>(|snapshot| Ok(snapshot.whole(key.number)?))?;
        let Some((record, Some(object))) = whole else {
            return Err(Error::new(
                ErrorKind::Encode,
                "the transport key was destroyed",
            ));
        };
        let (object, wrapped) = node.leaving(cx.store, cx.now, version, under, &record, object)?;
        let options = SendOptions {
            wrapped,
            dry_run: false,
            ..self.send_options(true)?
        };
        let sender = self.sender.as_ref().map(|sender| (sender, cx.store));
        conditional_request_item(options, record, Some(object), sender, None)
    }

    /// Uses the transport key from now on, if the peer has taken it.
    pub(super) fn on_transport_key_answer(&mut self, response: &ResponseMessage) {
        let sent = std::mem::replace(&mut self.transport, Transport::None);
        let (Transport::Sent(key), Some((node, _))) = (sent, &self.wrapping) else {
            return;
        };
        let answer = response
            .batch
            .first()
            .map(|item| result_of_answer(&key.record.identifier, item, self.options.version));
        if let Some(Ok(result)) = answer
            && !result.outcome.is_failure()
        {
            self.transport = Transport::Ready(Box::new((node.clone(), key.wrapping)));
        }
    }
}
