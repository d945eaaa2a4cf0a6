//! This module reads a request, and refuses one that cannot be read or whose sender may not ask.

use super::Server;
use super::message::failed_whole;
use crate::request::Request;
use keyferry_kmip::spec::AsynchronousIndicator;
use keyferry_kmip::{
    AsynchronousMode, Cause, DateTime, Escaped, Failure, Identity, Now, ProtocolVersion,
    RequestMessage, ResponseItem, ResponseMessage, VERSIONS, is_printable,
};
use keyferry_ttlv::{Frame, Version};
use std::collections::HashSet;
use std::sync::Arc;

/// A request, as far as it could be read.
pub(super) enum Parsed {
    Message(Arc<Request>),
    /// It cannot be read or may not be served; this is the answer.
    Refused(Frame),
}

impl Server {
    pub(super) fn parse(&self, tls: &Identity, now: Now, frame: &Frame) -> Parsed {
        self.read(tls, now, frame)
            .map_or_else(Parsed::Refused, |request| {
                Parsed::Message(Arc::new(request))
            })
    }

    /// The request, or the answer that refuses it.
    fn read(&self, tls: &Identity, now: Now, frame: &Frame) -> Result<Request, Frame> {
        let message = RequestMessage::from_frame(frame).map_err(|error| {
            // The reason may be a version that this server does not speak.
            let version = RequestMessage::version_hint(frame).map_or(Ok(Version::V1_0), spoken);
            match version {
                Ok(version) => refusal(version, now.wall, &error.into()),
                Err(nearest) => not_spoken(nearest, now.wall),
            }
        })?;
        let version = spoken(message.header.protocol_version)
            .map_err(|nearest| not_spoken(nearest, now.wall))?;
        let refuse = |failure: Failure| refusal(version, now.wall, &failure);
        check_message(&message).map_err(refuse)?;
        let access = self.admit(tls).map_err(refuse)?;
        let caller = self
            .caller(tls, &access, &message)
            .map_err(|failure| failed_whole(&message, version, now.wall, &failure))?;
        Ok(Request {
            is_client: access.is_client,
            peer: access.peer,
            tls: tls.clone(),
            caller,
            message,
            version,
        })
    }

    /// As what the TLS identity is admitted. What the policy knows is a peer, and a client only if the policy says so, too.
    fn admit(&self, tls: &Identity) -> Result<Admitted, Failure> {
        let policy = &self.node().policy;
        let peer = policy.peer(tls);
        let may_be_client = match peer {
            Some(peer) => peer.is_client,
            None => !policy.knows(tls),
        };
        let admitted = Admitted {
            // No certificate has the name of a peer or one that could end a log line: whoever hands it over has not read it from one.
            is_client: may_be_client
                && is_printable(&tls.name)
                && !tls.is_peer()
                && self.access.allows(tls),
            peer: peer.map(|peer| Identity::peer(&peer.server)),
        };
        if admitted.is_client || admitted.peer.is_some() {
            return Ok(admitted);
        }
        tracing::warn!(caller = %Escaped(&tls.name), rule = "access", "denied: not a client of this server");
        Err(Failure::new(
            Cause::PermissionDenied,
            "not a client of this server",
        ))
    }

    /// Who asks: the identity that a client's credentials stand for, where there is an authenticator; the TLS identity otherwise. A peer has
    /// no credentials: else one message had the rights of two.
    fn caller(
        &self,
        tls: &Identity,
        admitted: &Admitted,
        message: &RequestMessage,
    ) -> Result<Identity, Failure> {
        let credentials = self
            .authenticator
            .as_ref()
            .zip(message.header.authentication.as_ref());
        let Some((authenticator, authentication)) = credentials else {
            return Ok(match &admitted.peer {
                Some(peer) if !admitted.is_client => peer.clone(),
                _ => tls.clone(),
            });
        };
        let found = if admitted.peer.is_some() {
            Err(Failure::new(
                Cause::Authentication,
                "a peer of this server sends no credentials",
            ))
        } else {
            authenticator
                .authenticate(tls, &authentication.credentials)
                .and_then(|found| self.check_login(tls, found))
        };
        found.inspect_err(|failure| {
            let name = Escaped(&tls.name);
            tracing::warn!(caller = %name, rule = "credentials", "denied: {failure}");
        })
    }

    /// The identity that an authenticator has found, unless it is a peer's or has a name that only a certificate or a peer has.
    fn check_login(&self, tls: &Identity, found: Identity) -> Result<Identity, Failure> {
        let policy = &self.node().policy;
        let is_own = found.name == tls.name;
        let is_free = is_printable(&found.name)
            && !found.name.is_empty()
            && !Identity::is_reserved(&found.name)
            && !policy.has_name(&found.name);
        if !is_own && !is_free {
            let rule = format_args!("{:?} is no name for a login", found.name);
            tracing::warn!(caller = %Escaped(&tls.name), rule = %rule, "denied");
            return Err(Failure::new(
                Cause::Authentication,
                "the credentials are not those of a client",
            ));
        }
        // A login has no certificate of its own, and no key by which a peer is known.
        Ok(Identity::new(found.name))
    }
}

/// As what a TLS identity is admitted.
struct Admitted {
    /// Whether it is a client.
    is_client: bool,
    /// The peer that it is, as it acts here.
    peer: Option<Identity>,
}

fn check_message(message: &RequestMessage) -> Result<(), Failure> {
    let header = &message.header;
    if usize::try_from(header.batch_count).ok() != Some(message.batch.len()) {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "the Batch Count is not the number of batch items",
        ));
    }
    let identifiers: HashSet<&[u8]> = message
        .batch
        .iter()
        .filter_map(|item| item.unique_batch_item_id.as_deref())
        .collect();
    if message.batch.len() > 1 && identifiers.len() < message.batch.len() {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "each item of a batch needs a Unique Batch Item ID of its own",
        ));
    }
    let mandatory = AsynchronousMode::Indicator(AsynchronousIndicator::MANDATORY);
    if header.asynchronous_indicator == Some(mandatory) {
        return Err(Failure::new(
            Cause::FeatureNotSupported,
            "asynchronous answers are not supported",
        ));
    }
    Ok(())
}

/// The version of a request, when this server speaks it; otherwise the version in which to say that it does not.
fn spoken(protocol: ProtocolVersion) -> Result<Version, Version> {
    let version = protocol
        .version()
        .filter(|version| VERSIONS.contains(version));
    version.ok_or(if protocol.major == 1 {
        Version::V1_4
    } else {
        Version::V2_1
    })
}

fn not_spoken(nearest: Version, now: DateTime) -> Frame {
    refusal(
        nearest,
        now,
        &Failure::new(
            Cause::UnsupportedVersion,
            "KMIP 1.0 to 1.4, 2.0 and 2.1 are spoken here",
        ),
    )
}

/// The answer to a request that could not be read far enough to know its operations.
pub(super) fn refusal(version: Version, now: DateTime, failure: &Failure) -> Frame {
    let item = ResponseItem::failure(None, failure, version);
    ResponseMessage::new(version, now, vec![item])
        .to_frame()
        .unwrap_or_default()
}
