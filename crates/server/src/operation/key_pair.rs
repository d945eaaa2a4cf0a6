//! Create Key Pair (KMIP 2.1 §6.1.9): RSA and elliptic curves.

use super::create::{self, Origin, set_requested};
use super::{Operations, check_storage};
use keyferry_kmip::spec::{
    AttributeValue as V, CryptographicAlgorithm as A, KeyFormatType, LinkType, ObjectType,
    Operation, RecommendedCurve,
};
use keyferry_kmip::{
    Attributes, Cause, CreateKeyPairRequest, CreateKeyPairResponse, Curve, Failure, Key, KeyBlock,
    KeyPair, Link, Object, ReKeyKeyPairRequest, RequestItem, Secret, TemplateAttribute, Text,
};
use keyferry_s2s::{Answered, Ask, Node};
use keyferry_store::{Record, Snapshot, SnapshotExt};
use keyferry_ttlv::{Context, Extra};
use zeroize::Zeroizing;

/// The kind of key pair that is wanted.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rsa(i32),
    Ec(A, Curve),
}

impl Kind {
    /// The algorithm, and the length in bits.
    fn algorithm(self) -> (A, i32) {
        match self {
            Kind::Rsa(bits) => (A::RSA, bits),
            Kind::Ec(algorithm, Curve::P384) => (algorithm, 384),
            Kind::Ec(algorithm, _) => (algorithm, 256),
        }
    }

    /// The kind that attributes ask for, by algorithm, and by length or recommended curve.
    fn of(attributes: &Attributes) -> Result<Kind, Failure> {
        let missing = |what: &str| {
            Failure::new(
                Cause::MissingData,
                format_args!("a key pair needs the {what}"),
            )
        };
        let algorithm = attributes.iter().find_map(|a| match a.value {
            V::CryptographicAlgorithm(algorithm) => Some(algorithm),
            _ => None,
        });
        let bits = attributes.iter().find_map(|a| match a.value {
            V::CryptographicLength(bits) => Some(bits),
            _ => None,
        });
        let curve = attributes.iter().find_map(|a| match &a.value {
            V::CryptographicDomainParameters(parameters) => parameters.recommended_curve,
            _ => None,
        });
        match algorithm.ok_or_else(|| missing("Cryptographic Algorithm"))? {
            A::RSA => {
                let bits = bits.ok_or_else(|| missing("Cryptographic Length"))?;
                if bits % 8 != 0 || !(2048..=LONGEST).contains(&bits) {
                    let why = format_args!(
                        "RSA keys are made of 2048 to {LONGEST} bits, in multiples of 8, and not {bits}"
                    );
                    return Err(Failure::new(Cause::InvalidField, why));
                }
                Ok(Kind::Rsa(bits))
            }
            algorithm @ (A::EC | A::ECDSA | A::ECDH) => {
                let curve = match (curve, bits) {
                    (Some(RecommendedCurve::P_256), None | Some(256)) | (None, Some(256)) => {
                        Curve::P256
                    }
                    (Some(RecommendedCurve::P_384), None | Some(384)) | (None, Some(384)) => {
                        Curve::P384
                    }
                    (None, None) => {
                        return Err(missing("Recommended Curve or the Cryptographic Length"));
                    }
                    _ => {
                        return Err(Failure::new(
                            Cause::InvalidField,
                            "the curves P-256 and P-384 are known, with their lengths",
                        ));
                    }
                };
                Ok(Kind::Ec(algorithm, curve))
            }
            other => Err(Failure::new(
                Cause::InvalidField,
                format_args!("no key pairs are made for {other}"),
            )),
        }
    }

    /// A new pair: the private key and the public key.
    fn make(self, ops: &Operations) -> Result<(Object, Object), Failure> {
        let KeyPair { private, public } = match self {
            Kind::Rsa(bits) => ops.ready(bits).map_or_else(|| rsa(&ops.node, bits), Ok)?,
            Kind::Ec(_, curve) => ops
                .node
                .crypto
                .ec_key_pair(curve)
                .map_err(|e| Failure::new(Cause::Cryptographic, e))?,
        };
        let (private_format, public_format) = match self {
            Kind::Rsa(_) => (KeyFormatType::PKCS_1, KeyFormatType::PKCS_1),
            Kind::Ec(..) => (KeyFormatType::EC_PRIVATE_KEY, KeyFormatType::X509),
        };
        let key = |format, material: &Zeroizing<Vec<u8>>| Key {
            key_block: KeyBlock::plain(format, Some(self.algorithm()), Secret::new(material))
                .into(),
            extra: Extra::NONE,
        };
        Ok((
            Object::PrivateKey(key(private_format, &private)),
            Object::PublicKey(key(public_format, &public)),
        ))
    }
}

/// The length in bits of the longest RSA keys that are made; longer ones take minutes.
const LONGEST: i32 = 4096;

/// Makes an RSA key pair, which takes long.
pub(super) fn rsa(node: &Node, bits: i32) -> Result<KeyPair, Failure> {
    let pair = node
        .crypto
        .rsa_key_pair(usize::try_from(bits).unwrap_or_default());
    pair.map_err(|e| Failure::new(Cause::Cryptographic, e))
}

/// The length of the RSA key pair that a request will need, as far as that is known before its transaction.
pub(super) fn rsa_wanted(snapshot: &dyn Snapshot, item: &RequestItem, cx: Context) -> Option<i32> {
    let mut attributes = Attributes::new();
    let mut given = |more: Option<TemplateAttribute>| {
        more.into_iter()
            .flat_map(|more| more.attributes)
            .for_each(|a| attributes.keep(a))
    };
    if item.operation == Operation::CREATE_KEY_PAIR {
        let request: CreateKeyPairRequest = item.payload(cx).ok()?;
        given(request.private_key_attributes);
        given(request.common_attributes);
    } else {
        let request: ReKeyKeyPairRequest = item.payload(cx).ok()?;
        given(request.private_key_attributes);
        given(request.common_attributes);
        let old = request.private_key_unique_identifier?;
        let (_, record) = snapshot.by_identifier(old.as_text()?).ok()??;
        given(Some(record.attributes.into()));
    }
    match Kind::of(&attributes) {
        Ok(Kind::Rsa(bits)) => Some(bits),
        _ => None,
    }
}

pub(super) fn link(link_type: LinkType, target: &Text) -> V {
    V::Link(Link {
        link_type,
        target: target.clone().into(),
        extra: Extra::NONE,
    })
}

/// The attributes of one key of a pair: its own, and those common ones that its own do not override.
pub(super) fn of_one(
    ask: &Ask<'_>,
    object_type: ObjectType,
    own: Option<TemplateAttribute>,
    common: Option<&TemplateAttribute>,
    replaced: Option<&Record>,
) -> Result<Attributes, Failure> {
    let mut attributes = Attributes::new();
    if let Some(own) = own {
        set_requested(&mut attributes, own, object_type, ask, replaced)?;
    }
    if let Some(common) = common {
        let mut shared = Attributes::new();
        set_requested(&mut shared, common.clone(), object_type, ask, replaced)?;
        for attribute in shared {
            if attribute.value.may_repeat()
                || !attributes
                    .iter()
                    .any(|a| a.value.is_same_attribute(&attribute.value))
            {
                attributes.push(attribute.value);
            }
        }
    }
    Ok(attributes)
}

/// A new key pair; each key has its identifier, its attributes and its object.
pub(super) struct Pair {
    pub(super) private: (Text, Attributes, Object),
    pub(super) public: (Text, Attributes, Object),
}

/// Makes the key pair with these attributes, and links its keys to each other.
pub(super) fn made(
    ops: &Operations,
    ask: &mut Ask<'_>,
    mut private: Attributes,
    mut public: Attributes,
) -> Result<Pair, Failure> {
    if private
        .names()
        .any(|name| public.names().any(|other| other == name))
    {
        return Err(Failure::new(
            Cause::NameExists,
            "both keys of the pair would have the same Name",
        ));
    }
    let kind = Kind::of(&private)?;
    if Kind::of(&public)? != kind {
        return Err(Failure::new(
            Cause::InvalidField,
            "the two keys of a pair are of one algorithm and length",
        ));
    }
    let (private_key, public_key) = kind.make(ops)?;
    let (private_id, public_id) = (create::identifier(ask)?, create::identifier(ask)?);
    private.push(link(LinkType::PUBLIC_KEY_LINK, &public_id));
    public.push(link(LinkType::PRIVATE_KEY_LINK, &private_id));
    Ok(Pair {
        private: (private_id, private, private_key),
        public: (public_id, public, public_key),
    })
}

/// Create Key Pair.
pub(super) fn create_key_pair(
    ops: &Operations,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: CreateKeyPairRequest = item.payload(ask.cx)?;
    check_storage(request.common_protection_storage_masks.as_ref())?;
    check_storage(request.private_protection_storage_masks.as_ref())?;
    check_storage(request.public_protection_storage_masks.as_ref())?;
    let common = request.common_attributes.as_ref();
    let private = of_one(
        ask,
        ObjectType::PRIVATE_KEY,
        request.private_key_attributes,
        common,
        None,
    )?;
    let public = of_one(
        ask,
        ObjectType::PUBLIC_KEY,
        request.public_key_attributes,
        common,
        None,
    )?;
    let pair = made(ops, ask, private, public)?;
    let (private_id, public_id) = (pair.private.0.clone(), pair.public.0.clone());
    let mut effects = create::enter(ops, ask, pair.private, Origin::Made)?;
    effects.extend(create::enter(ops, ask, pair.public, Origin::Made)?);
    let response = CreateKeyPairResponse {
        private_key_unique_identifier: private_id.clone().into(),
        public_key_unique_identifier: public_id.into(),
        private_key_attributes: None,
        public_key_attributes: None,
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?
        .with(effects)
        .with_placeholder(private_id))
}
