//! This module reads a request, and refuses one that cannot be read or whose sender may not ask.

use super::Server;
use super::message::failed_whole;
use crate::request::Request;
use keyferry_kmip::spec::AsynchronousIndicator;
use keyferry_kmip::{
    AsynchronousMode, Cause, DateTime, Failure, Identity, Now, ProtocolVersion, RequestMessage,
    ResponseItem, ResponseMessage, VERSIONS,
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
        self.check_access(tls).map_err(refuse)?;
        let caller = self
            .caller(tls, &message)
            .map_err(|failure| failed_whole(&message, version, now.wall, &failure))?;
        Ok(Request {
            is_client: self.access.allows(tls),
            tls: tls.clone(),
            caller,
            message,
            version,
        })
    }

    fn check_access(&self, tls: &Identity) -> Result<(), Failure> {
        if self.node().policy.peer(tls).is_some() || self.access.allows(tls) {
            return Ok(());
        }
        tracing::warn!(caller = %tls.name, rule = "access", "denied: not a client of this server");
        Err(Failure::new(
            Cause::PermissionDenied,
            "not a client of this server",
        ))
    }

    /// Who asks: the identity that a client's credentials stand for, where there is an authenticator; the TLS identity otherwise.
    fn caller(&self, tls: &Identity, message: &RequestMessage) -> Result<Identity, Failure> {
        let is_peer = self.node().policy.peer(tls).is_some();
        match (&self.authenticator, &message.header.authentication) {
            (Some(authenticator), Some(authentication)) if !is_peer => authenticator
                .authenticate(tls, &authentication.credentials)
                .inspect_err(|failure| {
                    tracing::warn!(caller = %tls.name, rule = "credentials", "denied: {failure}");
                }),
            _ => Ok(tls.clone()),
        }
    }
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
