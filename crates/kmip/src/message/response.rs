//! Responses: header, batch items, the whole message (KMIP 2.1 §8.4 to §8.6, 1.4 §7).

use super::{MessageExtension, another_operation, read_message, to_frame};
use crate::credential::Nonce;
use crate::failure::Failure;
use crate::payload::{Payload, ResponsePayload};
use crate::protocol_version::{ProtocolVersion, version_of};
use crate::secret::Secret;
use crate::spec::names::context;
use crate::spec::*;
use keyferry_ttlv::{
    Context, DateTime, Decode, Downgrade, Encode, Error, ErrorKind, Extra, Frame, Item, Raw,
    Reader, Result, Tag, Tagged, Text, Version, Writer,
};

/// The header of a response (KMIP 2.1 §8.5, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::RESPONSE_HEADER)]
#[allow(missing_docs)]
pub struct ResponseHeader {
    pub protocol_version: ProtocolVersion,
    #[ttlv(tag = tag::TIME_STAMP)]
    pub time_stamp: DateTime,
    #[ttlv(since = "1.2")]
    pub nonce: Option<Nonce>,
    #[ttlv(tag = tag::SERVER_HASHED_PASSWORD, since = "2.0")]
    pub server_hashed_password: Option<Secret>,
    #[ttlv(since = "1.2")]
    pub attestation_types: Vec<AttestationType>,
    #[ttlv(tag = tag::CLIENT_CORRELATION_VALUE, since = "1.4")]
    pub client_correlation_value: Option<Text>,
    #[ttlv(tag = tag::SERVER_CORRELATION_VALUE, since = "1.4")]
    pub server_correlation_value: Option<Text>,
    #[ttlv(tag = tag::BATCH_COUNT)]
    pub batch_count: i32,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The result of one operation (KMIP 2.1 §8.6, since 1.0). The payload is [`Raw`] until it is read, which takes knowing the operation.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::BATCH_ITEM)]
pub struct ResponseItem<P = Raw> {
    /// The operation; absent when the request could not be read that far.
    pub operation: Option<Operation>,
    /// The one of the request.
    #[ttlv(tag = tag::UNIQUE_BATCH_ITEM_ID)]
    pub unique_batch_item_id: Option<Vec<u8>>,
    /// Success or not.
    pub result_status: ResultStatus,
    /// Why not.
    pub result_reason: Option<ResultReason>,
    /// Why not, in words.
    #[ttlv(tag = tag::RESULT_MESSAGE)]
    pub result_message: Option<Text>,
    /// Names the operation that goes on.
    #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
    pub asynchronous_correlation_value: Option<Vec<u8>>,
    /// The payload, of a success.
    #[ttlv(tag = tag::RESPONSE_PAYLOAD)]
    pub response_payload: Option<P>,
    /// Additions; the standard allows one.
    #[ttlv(tag = tag::MESSAGE_EXTENSION)]
    pub message_extension: Option<MessageExtension>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl<P> ResponseItem<P> {
    /// Success with this payload, which is of this operation.
    pub fn of(operation: Operation, response_payload: P) -> Self {
        ResponseItem {
            response_payload: Some(response_payload),
            ..ResponseItem::bare(Some(operation), ResultStatus::SUCCESS)
        }
    }

    /// An outcome without a payload.
    pub fn bare(operation: Option<Operation>, result_status: ResultStatus) -> Self {
        ResponseItem {
            operation,
            unique_batch_item_id: None,
            result_status,
            result_reason: None,
            result_message: None,
            asynchronous_correlation_value: None,
            response_payload: None,
            message_extension: None,
            extra: Extra::NONE,
        }
    }
}

impl ResponseItem {
    /// A success with this payload.
    ///
    /// # Errors
    /// When the context's version has no form for it.
    pub fn success<P: Payload>(payload: &P, cx: Context) -> Result<Self> {
        Ok(ResponseItem::of(
            P::OPERATION,
            Raw::of(tag::RESPONSE_PAYLOAD, payload, cx)?,
        ))
    }

    /// A failure, with the reason that `version` has for it.
    pub fn failure(operation: Option<Operation>, failure: &Failure, version: Version) -> Self {
        ResponseItem {
            result_reason: Some(failure.reason(version)),
            result_message: Some(failure.message().into()),
            ..ResponseItem::bare(operation, ResultStatus::OPERATION_FAILED)
        }
    }

    /// The payload of a success.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn payload<P: Payload>(&self, cx: Context) -> Result<P> {
        match &self.response_payload {
            Some(raw) => raw.read(cx),
            None => Err(Error::new(ErrorKind::Missing(tag::RESPONSE_PAYLOAD))
                .within(tag::BATCH_ITEM)
                .named(cx.dictionary)),
        }
    }

    /// Whether the operation succeeded.
    pub fn is_success(&self) -> bool {
        self.result_status == ResultStatus::SUCCESS
    }
}

/// A response (KMIP 2.1 §8.4, since 1.0). Its payloads are [`Raw`], each read by itself, or all of one operation and read at once.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseMessage<P = Raw> {
    /// The header.
    pub header: ResponseHeader,
    /// The results of the operations.
    pub batch: Vec<ResponseItem<P>>,
}

impl<P> ResponseMessage<P> {
    /// A response with these items.
    pub fn new(version: Version, time_stamp: DateTime, batch: Vec<ResponseItem<P>>) -> Self {
        let header = ResponseHeader {
            protocol_version: version.into(),
            time_stamp,
            nonce: None,
            server_hashed_password: None,
            attestation_types: Vec::new(),
            client_correlation_value: None,
            server_correlation_value: None,
            batch_count: i32::try_from(batch.len()).unwrap_or(i32::MAX),
            extra: Extra::NONE,
        };
        ResponseMessage { header, batch }
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

    /// Reads a message whose items are all of one operation, payloads included, in one pass. A failed item has none.
    ///
    /// # Errors
    /// What is wrong with it, or an item of another operation.
    pub fn typed(frame: &[u8]) -> Result<Self>
    where
        P: Payload,
    {
        let message: Self = keyferry_ttlv::decode(frame, context(Version::V1_0))?;
        let others = message.batch.iter().any(|item| {
            item.operation
                .is_some_and(|operation| operation != P::OPERATION)
        });
        if others {
            Err(another_operation(Self::TAG))
        } else {
            Ok(message)
        }
    }
}

impl ResponseMessage {
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
    pub fn read_payloads(self) -> Result<ResponseMessage<ResponsePayload>> {
        let cx = context(self.version()?);
        let read = |item: ResponseItem| {
            let payload = |raw: Raw| {
                // Without an operation nothing says what it is.
                let operation = item.operation.unwrap_or(Operation(0));
                ResponsePayload::read(operation, &raw, cx)
                    .map_err(|e| e.within(tag::BATCH_ITEM).within(tag::RESPONSE_MESSAGE))
            };
            Ok(ResponseItem {
                operation: item.operation,
                unique_batch_item_id: item.unique_batch_item_id,
                result_status: item.result_status,
                result_reason: item.result_reason,
                result_message: item.result_message,
                asynchronous_correlation_value: item.asynchronous_correlation_value,
                response_payload: item.response_payload.map(payload).transpose()?,
                message_extension: item.message_extension,
                extra: item.extra,
            })
        };
        Ok(ResponseMessage {
            header: self.header,
            batch: self.batch.into_iter().map(read).collect::<Result<_>>()?,
        })
    }
}

impl<P> Tagged for ResponseMessage<P> {
    const TAG: Tag = tag::RESPONSE_MESSAGE;
}

impl<P: Decode> Decode for ResponseMessage<P> {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let (header, batch) =
            read_message(item, r, tag::RESPONSE_HEADER, |header: &ResponseHeader| {
                (header.protocol_version, header.batch_count)
            })?;
        Ok(ResponseMessage { header, batch })
    }
}

impl<P: Encode> Encode for ResponseMessage<P> {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.structure(tag, |w| {
            self.header.encode(tag::RESPONSE_HEADER, w)?;
            self.batch
                .iter()
                .try_for_each(|item| item.encode(tag::BATCH_ITEM, w))
        })
    }
}
