//! The messages and objects that the benches measure, built here so that nothing is read from files, and the floor to compare with.

use keyferry_kmip::spec::{
    AttributeValue as V, CryptographicAlgorithm, CryptographicUsageMask, HashingAlgorithm,
    KeyFormatType, LinkType, ObjectType, State,
};
use keyferry_kmip::{
    Attributes, CreateRequest, CustomAttribute, DateTime, Digest, GetAttributesResponse,
    GetResponse, Interval, Link, LocateResponse, Name, Object, Payload, RegisterRequest,
    RequestItem, RequestMessage, ResponseItem, ResponseMessage, Secret, UniqueIdentifier,
};
use keyferry_ttlv::{Extra, Frame, Version};
use std::hint::black_box;

pub mod objects;

/// The version that the messages are written in: one that every peer knows.
pub const VERSION: Version = Version::V1_4;

fn uuid(n: u32) -> String {
    format!("{n:08x}-7c1e-4b5a-9d3f-{:012x}", u64::from(n) * 0x9E37_79B9)
}

fn identifier(n: u32) -> UniqueIdentifier {
    uuid(n).as_str().into()
}

fn four(n: u32) -> Attributes {
    Attributes::new()
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(256))
        .with(V::CryptographicUsageMask(
            CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
        ))
        .with(V::Name(Name::text(format!("bench key {n}"))))
}

fn eight(n: u32) -> Attributes {
    four(n)
        .with(V::ObjectGroup("bench".into()))
        .with(V::ContactInformation("keys@example.com".into()))
        .with(V::ActivationDate(DateTime(1_700_000_000 + i64::from(n))))
        .with(V::Custom(CustomAttribute::text("ID", format!("asset-{n}"))))
}

fn twenty_five() -> Attributes {
    let date = DateTime(1_700_000_000);
    let digest = |format| Digest {
        hashing_algorithm: HashingAlgorithm::SHA_256,
        value: Some(vec![0x5A; 32]),
        key_format_type: Some(format),
        extra: Extra::NONE,
    };
    let link = |link_type, n| Link {
        link_type,
        target: identifier(n),
        extra: Extra::NONE,
    };
    eight(1)
        .with(V::UniqueIdentifier(identifier(1)))
        .with(V::ObjectType(ObjectType::SYMMETRIC_KEY))
        .with(V::State(State::ACTIVE))
        .with(V::InitialDate(date))
        .with(V::LastChangeDate(date))
        .with(V::OriginalCreationDate(date))
        .with(V::ProcessStartDate(date))
        .with(V::ProtectStopDate(date))
        .with(V::DeactivationDate(date))
        .with(V::LeaseTime(Interval(3600)))
        .with(V::Fresh(false))
        .with(V::Digest(digest(KeyFormatType::RAW)))
        .with(V::Digest(digest(KeyFormatType::TRANSPARENT_SYMMETRIC_KEY)))
        .with(V::Link(link(LinkType::PREVIOUS_LINK, 2)))
        .with(V::Link(link(LinkType::REPLACEMENT_OBJECT_LINK, 3)))
        .with(V::OperationPolicyName("default".into()))
        .with(V::Custom(CustomAttribute::text("Site", "headquarters")))
}

fn key() -> Object {
    Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&[7; 32]))
}

/// (a) A Create request with four attributes.
pub fn create() -> CreateRequest {
    CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: four(1).into(),
        protection_storage_masks: None,
        extra: Extra::NONE,
    }
}

/// (b) A Locate response with 1 000 identifiers.
pub fn located() -> LocateResponse {
    LocateResponse {
        located_items: Some(1000),
        unique_identifiers: (0..1000).map(uuid).collect(),
        extra: Extra::NONE,
    }
}

/// (c) A Get response with an AES-256 key.
pub fn got() -> GetResponse {
    GetResponse {
        object_type: ObjectType::SYMMETRIC_KEY,
        unique_identifier: identifier(1),
        object: key(),
        extra: Extra::NONE,
    }
}

/// (d) A Get Attributes response with 25 attributes.
pub fn attributes() -> GetAttributesResponse {
    GetAttributesResponse {
        unique_identifier: identifier(1),
        attributes: twenty_five(),
        extra: Extra::NONE,
    }
}

/// (e) A hundred Register requests with key blocks and eight attributes each.
pub fn registers() -> Vec<RegisterRequest> {
    let one = |n| RegisterRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: eight(n).into(),
        object: Some(key()),
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    (0..100).map(one).collect()
}

/// The messages by name.
pub const CASES: &[&str] = &[
    "a Create, 4 attributes",
    "b Locate, 1000 found",
    "c Get, AES-256",
    "d Get Attributes, 25",
    "e 100 Registers",
];

/// One message: its bytes, and what reads and writes it.
pub struct Case {
    /// The bytes.
    pub frame: Frame,
    /// Reads them into a typed message.
    pub decode: Box<dyn Fn() + Sync>,
    /// Writes that message.
    pub encode: Box<dyn Fn() + Sync>,
}

/// One of [`CASES`].
///
/// # Panics
/// When it is none of them.
#[allow(clippy::panic)]
pub fn case(name: &str) -> Case {
    match name.as_bytes() {
        [b'a', ..] => request(vec![create()]),
        [b'b', ..] => response(located()),
        [b'c', ..] => response(got()),
        [b'd', ..] => response(attributes()),
        [b'e', ..] => request(registers()),
        _ => panic!("no message {name}"),
    }
}

/// A request of these payloads.
///
/// # Panics
/// When the version can't say them.
#[allow(clippy::unwrap_used)]
fn request<P: Payload + Sync + 'static>(payloads: Vec<P>) -> Case {
    let items = payloads
        .into_iter()
        .map(|payload| RequestItem::of(P::OPERATION, payload))
        .collect();
    let message = RequestMessage::new(VERSION, items);
    let frame = message.to_frame().unwrap();
    let bytes = frame.clone();
    Case {
        frame,
        decode: Box::new(move || {
            drop(black_box(
                RequestMessage::<P>::typed(black_box(&bytes)).unwrap(),
            ))
        }),
        encode: Box::new(move || drop(black_box(black_box(&message).to_frame().unwrap()))),
    }
}

/// A response with this payload.
///
/// # Panics
/// When the version can't say it.
#[allow(clippy::unwrap_used)]
fn response<P: Payload + Sync + 'static>(payload: P) -> Case {
    let message = ResponseMessage::new(
        VERSION,
        DateTime(1_700_000_000),
        vec![ResponseItem::of(P::OPERATION, payload)],
    );
    let frame = message.to_frame().unwrap();
    let bytes = frame.clone();
    Case {
        frame,
        decode: Box::new(move || {
            drop(black_box(
                ResponseMessage::<P>::typed(black_box(&bytes)).unwrap(),
            ))
        }),
        encode: Box::new(move || drop(black_box(black_box(&message).to_frame().unwrap()))),
    }
}

/// The floor: a plain nested walk over all headers, each length checked against what is there, nothing made of it.
pub fn walk(mut rest: &[u8]) -> usize {
    let mut items = 0;
    while let Some((&[_, _, _, ty, l0, l1, l2, l3], behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let Some((value, next)) = behind.split_at_checked(length.next_multiple_of(8)) else {
            return items;
        };
        items += 1;
        if ty == 1 {
            items += walk(value);
        }
        rest = next;
    }
    items
}
