//! Requests and responses: headers, batch items, extensions (KMIP 2.1 §8 and §9, 1.4 §6 and §7).

use crate::spec::*;
use crate::{
    Authentication, DateTime, Failure, Nonce, RequestPayload, ResponsePayload, Secret, Text,
};
use keyferry_ttlv::{
    Context, Decode, Downgrade, Encode, Error, ErrorKind, Extra, Frame, Item, Loss, Raw, Reader,
    Result, Tag, Tagged, Version, Writer,
};

/// A payload of an operation.
pub trait Payload: Encode + Decode {
    /// The operation that it belongs to.
    const OPERATION: Operation;
}

/// The context in which messages are read and written: the standard's names in errors.
pub fn context(version: Version) -> Context {
    Context {
        dictionary: Some(&Names),
        ..Context::new(version)
    }
}

/// The versions that can be spoken, preferred ones first.
pub const VERSIONS: &[Version] = &[
    Version::V2_1,
    Version::V2_0,
    Version::V1_4,
    Version::V1_3,
    Version::V1_2,
    Version::V1_1,
    Version::V1_0,
];

/// A version as a message carries it (KMIP 2.1 §9.16, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::PROTOCOL_VERSION)]
pub struct ProtocolVersion {
    /// The major number.
    #[ttlv(tag = tag::PROTOCOL_VERSION_MAJOR)]
    pub major: i32,
    /// The minor number.
    #[ttlv(tag = tag::PROTOCOL_VERSION_MINOR)]
    pub minor: i32,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> Self {
        ProtocolVersion {
            major: version.major.into(),
            minor: version.minor.into(),
        }
    }
}

impl ProtocolVersion {
    /// The version, where the numbers are small enough to be one.
    pub fn version(self) -> Option<Version> {
        Some(Version::new(
            self.major.try_into().ok()?,
            self.minor.try_into().ok()?,
        ))
    }
}

/// Whether an answer may come later (KMIP 2.1 §9.2: an Enumeration; 1.4 §6.7: a Boolean).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsynchronousMode {
    /// 1.x.
    Boolean(bool),
    /// 2.x.
    Indicator(AsynchronousIndicator),
}

impl Tagged for AsynchronousMode {
    const TAG: Tag = tag::ASYNCHRONOUS_INDICATOR;
}

impl Decode for AsynchronousMode {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        if r.version() >= Version::V2_0 {
            return AsynchronousIndicator::decode(item, r).map(AsynchronousMode::Indicator);
        }
        item.boolean(r).map(AsynchronousMode::Boolean)
    }
}

impl Encode for AsynchronousMode {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match (self, w.version() >= Version::V2_0) {
            (AsynchronousMode::Boolean(value), false) => w.boolean(tag, *value),
            (AsynchronousMode::Indicator(value), true) => w.enumeration(tag, value.0),
            (AsynchronousMode::Boolean(_), true) => {
                w.require(tag, Version::V1_0, Some(Version::V1_4))?
            }
            (AsynchronousMode::Indicator(_), false) => w.require(tag, Version::V2_0, None)?,
        }
        Ok(())
    }
}

/// The header of a request (KMIP 2.1 §8.2, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
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

/// A vendor's addition to a batch item (KMIP 2.1 §9.13, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::MESSAGE_EXTENSION)]
pub struct MessageExtension {
    /// Whose.
    #[ttlv(tag = tag::VENDOR_IDENTIFICATION)]
    pub vendor_identification: Text,
    /// Whether a receiver that does not know it must refuse.
    #[ttlv(tag = tag::CRITICALITY_INDICATOR)]
    pub criticality_indicator: bool,
    /// The content, a structure.
    #[ttlv(tag = tag::VENDOR_EXTENSION)]
    pub vendor_extension: Raw,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// One operation asked for (KMIP 2.1 §8.3, since 1.0). Its payload is read when the operation is known: [`Raw`] until then.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
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
    /// Whether no extension is left behind that must not be passed over.
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
    /// An item with this payload, written already.
    ///
    /// # Errors
    /// When the context's version can't say it.
    pub fn new<P: Payload>(payload: &P, cx: Context) -> Result<Self> {
        Ok(RequestItem::of(
            P::OPERATION,
            Raw::of(tag::REQUEST_PAYLOAD, payload, cx)?,
        ))
    }

    /// Its payload as the type of its operation.
    ///
    /// # Errors
    /// What is wrong with it, with places in the whole message.
    pub fn payload<P: Payload>(&self, cx: Context) -> Result<P> {
        self.request_payload.read(cx)
    }
}

/// A request (KMIP 2.1 §8.1, since 1.0). Its payloads are [`Raw`], each read by itself, or all of one operation and read at once.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
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

    /// The version it is written in.
    ///
    /// # Errors
    /// When the header's numbers are those of no version.
    pub fn version(&self) -> Result<Version> {
        version_of(self.header.protocol_version)
    }

    /// The message's bytes, in its own version.
    ///
    /// # Errors
    /// When that version can't say it.
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

fn to_frame<M: Encode + Tagged>(message: &M, version: Version, items: usize) -> Result<Frame> {
    // Room for a Create or a small Register each: rarely too little, and soon doubled.
    let mut w = Writer::with_capacity(
        context(version),
        items.saturating_mul(768).saturating_add(256),
    );
    message.encode(M::TAG, &mut w)?;
    Ok(w.finish())
}

#[cold]
fn another_operation(message: Tag) -> Error {
    let why = ErrorKind::Value("an item is of another operation");
    Error::new(why)
        .within(tag::OPERATION)
        .within(tag::BATCH_ITEM)
        .within(message)
        .named(Some(&Names))
}

fn version_of(protocol: ProtocolVersion) -> Result<Version> {
    protocol.version().ok_or_else(|| {
        Error::new(ErrorKind::Value(
            "the protocol version's numbers are out of range",
        ))
        .within(tag::PROTOCOL_VERSION)
    })
}

/// Reads the header, sets the version, and reads the items: the same for both kinds of message.
fn message<'a, H: Decode, I: Decode>(
    item: Item<'a>,
    r: &Reader<'a>,
    header_tag: Tag,
    stated: impl Fn(&H) -> (ProtocolVersion, i32),
) -> Result<(H, Vec<I>)> {
    let mut children = r.enter(item)?;
    let first = children
        .step()
        .filter(|child| child.tag() == header_tag)
        .ok_or_else(|| r.missing(item, header_tag))?;
    // The version stands in the header and governs how the header itself is read.
    let mut inside = r.children(first).map_err(|e| e.within(header_tag))?;
    while let Some(child) = inside.step() {
        if child.tag() == tag::PROTOCOL_VERSION {
            let protocol = r
                .child::<ProtocolVersion>(child)
                .map_err(|e| e.within(header_tag))?;
            r.set_version(
                version_of(protocol).map_err(|e| e.at(r.offset(child)).within(header_tag))?,
            );
            break;
        }
    }
    let header: H = r.child(first)?;
    let (version, count) = stated(&header);
    r.set_version(version_of(version)?);
    // Room for what the header announces, as far as there are bytes for it.
    let most = item.value().len() / size_of::<I>().max(1);
    let mut batch = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(most + 1));
    while let Some(child) = children.step() {
        if child.tag() != tag::BATCH_ITEM {
            return Err(r.unexpected(child));
        }
        batch.push(r.child(child)?);
    }
    r.leave(children)?;
    Ok((header, batch))
}

impl<P> Tagged for RequestMessage<P> {
    const TAG: Tag = tag::REQUEST_MESSAGE;
}

impl<P: Decode> Decode for RequestMessage<P> {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let (header, batch) = message(item, r, tag::REQUEST_HEADER, |header: &RequestHeader| {
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

/// The header of a response (KMIP 2.1 §8.5, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
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

/// What became of one operation (KMIP 2.1 §8.6, since 1.0). Its payload is read when the operation is known: [`Raw`] until then.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
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
    /// Success with this payload, written already.
    ///
    /// # Errors
    /// When the context's version can't say it.
    pub fn success<P: Payload>(payload: &P, cx: Context) -> Result<Self> {
        Ok(ResponseItem::of(
            P::OPERATION,
            Raw::of(tag::RESPONSE_PAYLOAD, payload, cx)?,
        ))
    }

    /// Failure, with the reason that `version` has for it.
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

    /// Whether it is one.
    pub fn is_success(&self) -> bool {
        self.result_status == ResultStatus::SUCCESS
    }
}

/// A response (KMIP 2.1 §8.4, since 1.0). Its payloads are [`Raw`], each read by itself, or all of one operation and read at once.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseMessage<P = Raw> {
    /// The header.
    pub header: ResponseHeader,
    /// What became of each operation.
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

    /// The version it is written in.
    ///
    /// # Errors
    /// When the header's numbers are those of no version.
    pub fn version(&self) -> Result<Version> {
        version_of(self.header.protocol_version)
    }

    /// The message's bytes, in its own version.
    ///
    /// # Errors
    /// When that version can't say it.
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
        let (header, batch) = message(item, r, tag::RESPONSE_HEADER, |header: &ResponseHeader| {
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
