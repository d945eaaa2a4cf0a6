//! The messages that the benches measure, built here so that nothing is read from files.

use keyferry_kmip::spec::{AttributeValue as V, CryptographicAlgorithm, CryptographicUsageMask, ObjectType};
use keyferry_kmip::{
    Attributes, CreateRequest, CustomAttribute, Name, Object, RegisterRequest, RequestItem, RequestMessage, Secret, context,
};
use keyferry_ttlv::{Error, Extra, Frame, Version};

fn attributes(n: u32) -> Attributes {
    Attributes::new()
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(256))
        .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT))
        .with(V::Name(Name::text(format!("bench key {n}"))))
        .with(V::ObjectGroup("bench".into()))
        .with(V::ContactInformation("keys@example.com".into()))
        .with(V::Custom(CustomAttribute::text("ID", format!("asset-{n}"))))
        .with(V::Custom(CustomAttribute::text("Site", "headquarters")))
}

/// A Create request with eight attributes.
///
/// # Errors
/// None in practice.
pub fn create() -> Result<Frame, Error> {
    let payload = CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: attributes(1),
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    RequestMessage::new(Version::V2_1, vec![RequestItem::new(&payload, context(Version::V2_1))?]).to_frame()
}

/// A batch of 100 Register requests with key blocks.
///
/// # Errors
/// None in practice.
pub fn registers() -> Result<Frame, Error> {
    let items = (0..100).map(|n| {
        let payload = RegisterRequest {
            object_type: ObjectType::SYMMETRIC_KEY,
            attributes: attributes(n),
            object: Some(Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&[7; 32]))),
            protection_storage_masks: None,
            extra: Extra::NONE,
        };
        RequestItem::new(&payload, context(Version::V2_1))
    });
    RequestMessage::new(Version::V2_1, items.collect::<Result<_, _>>()?).to_frame()
}
