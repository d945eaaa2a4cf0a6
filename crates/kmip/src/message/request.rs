//! Requests: header, batch items, the whole message (KMIP 2.1 §8.1 to §8.3, 1.4 §7).

use super::{AsynchronousMode, MessageExtension, another_operation, read_message, to_frame};
use crate::credential::Authentication;
use crate::payload::{Payload, RequestPayload};
use crate::protocol_version::{ProtocolVersion, version_of};
use crate::spec::names::context;
use crate::spec::*;
use keyferry_ttlv::{
    Context, DateTime, Decode, Downgrade, Encode, Extra, Frame, Item, Loss, Raw, Reader, Result,
    Tag, Tagged, Text, Version, Writer,
};

/// The header of a request (KMIP 2.1 §8.2, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::REQUEST_HEADER)]
#[allow(missing_docs)]
pub struct RequestHeader {
    pub protocol_version: ProtocolVersion,
    #[ttlv(tag = tag::MAXIMUM_RESPONSE_SIZE)]
    pub maximum_response_size: Option<i32>,
    #[ttlv(tag = tag::CLIENT_CORRELATION_VALUE, since = "1.4")]
    pub client_correlation_value: Option<Text>,
    #[ttlv(tag = tag::SERVER_CORRELATION_VALUE, since = "1.4")]
    pub server_correlation_value: Option<Text>,
    pub asynchronous_indicator: Option<AsynchronousMode>,
    #[ttlv(tag = tag::ATTESTATION_CAPABLE_INDICATOR, since = "1.2")]
    pub attestation_capable_indicator: Option<bool>,
    #[ttlv(since = "1.2")]
    pub attestation_types: Vec<AttestationType>,
    pub authentication: Option<Authentication>,
    pub batch_error_continuation_option: Option<BatchErrorContinuationOption>,
    #[ttlv(tag = tag::BATCH_ORDER_OPTION)]
    pub batch_order_option: Option<bool>,
    #[ttlv(tag = tag::TIME_STAMP)]
    pub time_stamp: Option<DateTime>,
    #[ttlv(tag = tag::BATCH_COUNT)]
    pub batch_count: i32,
    #[ttlv(extra)]
    pub extra: Extra,
}

impl RequestHeader {
    /// The least that a request needs.
    pub fn new(version: Version) -> Self {
        RequestHeader {
            protocol_version: version.into(),
            maximum_response_size: None,
            client_correlation_value: None,
            server_correlation_value: None,
            asynchronous_indicator: None,
            attestation_capable_indicator: None,
            attestation_types: Vec::new(),
            authentication: None,
            batch_error_continuation_option: None,
            batch_order_option: None,
            time_stamp: None,
            batch_count: 0,
            extra: Extra::NONE,
        }
    }
}

/// A request for one operation (KMIP 2.1 §8.3, since 1.0). The payload is [`Raw`] until it is read, which takes knowing the operation.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::BATCH_ITEM, downgrade = Self::keeps_critical)]
pub struct RequestItem<P = Raw> {
    /// The operation.
    pub operation: Operation,
    /// Whether output stays at the server, since 2.0.
    #[ttlv(tag = tag::EPHEMERAL, since = "2.0", vital)]
    pub ephemeral: Option<bool>,
    /// Tells the answers of a batch apart.
    #[ttlv(tag = tag::UNIQUE_BATCH_ITEM_ID)]
    pub unique_batch_item_id: Option<Vec<u8>>,
    /// The payload.
    #[ttlv(tag = tag::REQUEST_PAYLOAD)]
    pub request_payload: P,
    /// Additions; one at the most before 2.0.
    #[ttlv(tag = tag::MESSAGE_EXTENSION, repeated_since = "2.0")]
    pub message_extensions: Vec<MessageExtension>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl<P> RequestItem<P> {
    /// Whether no critical extension would be left behind.
    fn keeps_critical(&mut self, version: Version, _: &mut Loss) -> bool {
        version >= Version::V2_0
            || !self
                .message_extensions
                .iter()
                .skip(1)
                .any(|extension| extension.criticality_indicator)
    }

    /// An item with this payload, which is of this operation.
    pub fn of(operation: Operation, request_payload: P) -> Self {
        RequestItem {
            operation,
            ephemeral: None,
            unique_batch_item_id: None,
            request_payload,
            message_extensions: Vec::new(),
            extra: Extra::NONE,
        }
    }
}

impl RequestItem {
    /// An item with this payload.
    ///
    /// # Errors
    /// When the context's version has no form for it.
    pub fn new<P: Payload>(payload: &P, cx: Context) -> Result<Self> {
        Ok(RequestItem::of(
            P::OPERATION,
            Raw::of(tag::REQUEST_PAYLOAD, payload, cx)?,
        ))
    }

    /// The payload, read as the type of the operation.
    ///
    /// # Errors
    /// What is wrong with it, with places in the whole message.
    pub fn payload<P: Payload>(&self, cx: Context) -> Result<P> {
        self.request_payload.read(cx)
    }
}

/// A request (KMIP 2.1 §8.1, since 1.0). Its payloads are [`Raw`], each read by itself, or all of one operation and read at once.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub struct RequestMessage<P = Raw> {
    /// The header.
    pub header: RequestHeader,
    /// The operations.
    pub batch: Vec<RequestItem<P>>,
}

impl<P> RequestMessage<P> {
    /// A request for these items, which get identifiers when there are several.
    pub fn new(version: Version, mut batch: Vec<RequestItem<P>>) -> Self {
        if batch.len() > 1 {
            for (n, item) in (0u32..).zip(&mut batch) {
                item.unique_batch_item_id
                    .get_or_insert_with(|| n.to_be_bytes().to_vec());
            }
        }
        let mut header = RequestHeader::new(version);
        header.batch_count = i32::try_from(batch.len()).unwrap_or(i32::MAX);
        RequestMessage { header, batch }
    }

    /// The version that the message is written in.
    ///
    /// # Errors
    /// When the header's numbers are those of no version.
    pub fn version(&self) -> Result<Version> {
        version_of(self.header.protocol_version)
    }

    /// The message's bytes, in its own version.
    ///
    /// # Errors
    /// When that version has no form for it.
    pub fn to_frame(&self) -> Result<Frame>
    where
        P: Encode,
    {
        to_frame(self, self.version()?, self.batch.len())
    }

    /// Reads a message whose items are all of one operation, payloads included, in one pass.
    ///
    /// # Errors
    /// What is wrong with it, or an item of another operation.
    pub fn typed(frame: &[u8]) -> Result<Self>
    where
        P: Payload,
    {
        let message: Self = keyferry_ttlv::decode(frame, context(Version::V1_0))?;
        let others = message
            .batch
            .iter()
            .any(|item| item.operation != P::OPERATION);
        if others {
            Err(another_operation(Self::TAG))
        } else {
            Ok(message)
        }
    }
}

impl RequestMessage {
    /// A message of one item.
    ///
    /// # Errors
    /// When the version can't carry the payload.
    pub fn with_item<Q: Payload>(version: Version, payload: &Q) -> Result<Self> {
        let item = RequestItem::new(payload, crate::spec::names::context(version))?;
        Ok(RequestMessage::new(version, vec![item]))
    }

    /// The version of a message that can't be read as a whole, as far as its header tells.
    pub fn version_hint(frame: &[u8]) -> Option<ProtocolVersion> {
        let cx = context(Version::V1_0);
        let r = Reader::new(frame, cx);
        let mut outer = r.children(Item::parse(frame).ok()?).ok()?;
        let mut header = r.children(outer.next(&r).ok()??).ok()?;
        let first = header.next(&r).ok()??;
        if first.tag() != tag::PROTOCOL_VERSION {
            return None;
        }
        r.child::<ProtocolVersion>(first).ok()
    }

    /// Reads a message. Its payloads are not looked into yet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_frame(frame: &[u8]) -> Result<Self> {
        keyferry_ttlv::decode(frame, context(Version::V1_0))
    }

    /// The same message with every payload as the type of its operation; one of an operation that is not known stays as it is.
    ///
    /// # Errors
    /// What is wrong with a payload, with its place in the whole message.
    pub fn read_payloads(self) -> Result<RequestMessage<RequestPayload>> {
        let cx = context(self.version()?);
        let read = |item: RequestItem| {
            let request_payload =
                RequestPayload::read(item.operation, &item.request_payload, cx)
                    .map_err(|e| e.within(tag::BATCH_ITEM).within(tag::REQUEST_MESSAGE))?;
            Ok(RequestItem {
                operation: item.operation,
                ephemeral: item.ephemeral,
                unique_batch_item_id: item.unique_batch_item_id,
                request_payload,
                message_extensions: item.message_extensions,
                extra: item.extra,
            })
        };
        Ok(RequestMessage {
            header: self.header,
            batch: self.batch.into_iter().map(read).collect::<Result<_>>()?,
        })
    }
}

impl<P> Tagged for RequestMessage<P> {
    const TAG: Tag = tag::REQUEST_MESSAGE;
}

impl<P: Decode> Decode for RequestMessage<P> {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let (header, batch) =
            read_message(item, r, tag::REQUEST_HEADER, |header: &RequestHeader| {
                (header.protocol_version, header.batch_count)
            })?;
        Ok(RequestMessage { header, batch })
    }
}

impl<P: Encode> Encode for RequestMessage<P> {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.structure(tag, |w| {
            self.header.encode(tag::REQUEST_HEADER, w)?;
            self.batch
                .iter()
                .try_for_each(|item| item.encode(tag::BATCH_ITEM, w))
        })
    }
}
