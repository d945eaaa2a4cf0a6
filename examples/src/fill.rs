//! Managed objects of every kind that servers meet, the same ones for the same numbers. Their keys are for show: the generator is not a
//! secure one.

use crate::Result;
use keyferry_crypto::Ring;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_net::blocking::Client;
use keyferry_ttlv::{Extra, Raw, Value, Version};
use std::sync::Arc;

/// One object as an Import carries it.
pub struct Made {
    /// Its Unique Identifier.
    pub identifier: Text,
    /// Its type.
    pub object_type: ObjectType,
    /// Its attributes.
    pub attributes: Attributes,
    /// The object, unless it was destroyed.
    pub object: Option<Object>,
}

/// Makes objects.
pub struct Maker {
    crypto: Arc<dyn Crypto>,
    rsa: Vec<KeyPair>,
    now: DateTime,
    state: u64,
}

const DAY: i64 = 86_400;

impl Maker {
    /// A maker for this moment. RSA pairs take long to find, so there are few, and they are used again and again.
    ///
    /// # Errors
    /// When no key pair can be made.
    pub fn new(now: DateTime) -> Result<Maker> {
        let crypto = Arc::new(Ring::new());
        let rsa = (0..3)
            .map(|_| crypto.rsa_key_pair(2048))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Maker {
            crypto,
            rsa,
            now,
            state: 1,
        })
    }

    fn next(&mut self) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, length: usize) -> Secret {
        let words: Vec<u8> = (0..length.div_ceil(8))
            .flat_map(|_| self.next().to_be_bytes())
            .collect();
        Secret::new(words.get(..length).unwrap_or_default())
    }

    fn identifier(&mut self, n: u64) -> Text {
        self.state = n.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(7);
        let (high, low) = (self.next(), self.next());
        let text = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFF,
            low >> 52,
            low & 0xFFFF_FFFF_FFFF
        );
        text.into()
    }

    /// The objects that begin at number `n`: one, or the two halves of a key pair.
    ///
    /// # Errors
    /// When a key or a certificate can't be made.
    pub fn make(&mut self, n: u64, pairs: bool) -> Result<Vec<Made>> {
        let identifier = self.identifier(n);
        let object = match n % 16 {
            0..=6 => self.symmetric(n),
            7 if pairs => {
                return self.pair(
                    n,
                    identifier,
                    KeyFormatType::PKCS_1,
                    KeyFormatType::PKCS_1,
                    CryptographicAlgorithm::RSA,
                    2048,
                );
            }
            9 if pairs => {
                return self.pair(
                    n,
                    identifier,
                    KeyFormatType::EC_PRIVATE_KEY,
                    KeyFormatType::X509,
                    CryptographicAlgorithm::EC,
                    256,
                );
            }
            10 | 11 => certificate(n)?,
            12 => Object::secret_data(
                if n.is_multiple_of(3) {
                    SecretDataType::SEED
                } else {
                    SecretDataType::PASSWORD
                },
                self.bytes(24),
            ),
            13 => self.wrapped(),
            14 => self.split(n),
            15 => self.transparent()?,
            _ => Object::OpaqueObject(OpaqueObject {
                opaque_data_type: Enumeration(0x8000_0001),
                value: self.bytes(usize::try_from(64 + n % 200)?),
                extra: Extra::NONE,
            }),
        };
        Ok(vec![self.finish(n, identifier, object, None)])
    }

    fn symmetric(&mut self, n: u64) -> Object {
        use CryptographicAlgorithm as A;
        let (algorithm, bits) = match n % 7 {
            0 => (A::AES, 128),
            1 => (A::AES, 192),
            2 | 3 => (A::AES, 256),
            4 => (A::TRIPLE_DES, 192),
            5 => (A::HMAC_SHA256, 512),
            _ => (A::CAMELLIA, 256),
        };
        let key = self.bytes(bits as usize / 8);
        Object::symmetric_key(algorithm, bits, key)
    }

    fn wrapped(&mut self) -> Object {
        let mut block = KeyBlock::plain(
            KeyFormatType::RAW,
            Some((CryptographicAlgorithm::AES, 256)),
            Secret::new(&[]),
        );
        block.key_value = Some(KeyValue::Wrapped(self.bytes(40)));
        block.key_wrapping_data = Some(Box::new(KeyWrappingData {
            wrapping_method: WrappingMethod::ENCRYPT,
            encryption_key_information: Some(WrappingKeyInformation {
                unique_identifier: "key-encryption-key".into(),
                cryptographic_parameters: Some(Box::new(CryptographicParameters {
                    block_cipher_mode: Some(BlockCipherMode::NIST_KEY_WRAP),
                    ..CryptographicParameters::default()
                })),
                extra: Extra::NONE,
            }),
            mac_signature_key_information: None,
            mac_signature: None,
            iv_counter_nonce: None,
            encoding_option: Some(EncodingOption::NO_ENCODING),
            extra: Extra::NONE,
        }));
        Object::SymmetricKey(Key {
            key_block: block.into(),
            extra: Extra::NONE,
        })
    }

    fn split(&mut self, n: u64) -> Object {
        Object::SplitKey(SplitKey {
            split_key_parts: 3,
            key_part_identifier: i32::try_from(n % 3 + 1).unwrap_or(1),
            split_key_threshold: 2,
            split_key_method: SplitKeyMethod::XOR,
            prime_field_size: None,
            key_block: KeyBlock::plain(
                KeyFormatType::RAW,
                Some((CryptographicAlgorithm::AES, 256)),
                self.bytes(32),
            )
            .into(),
            extra: Extra::NONE,
        })
    }

    fn transparent(&mut self) -> Result<Object> {
        let mut writer = keyferry_ttlv::Writer::new(context(Version::V2_1));
        let key = self.bytes(32);
        writer.structure(tag::KEY_MATERIAL, |w| w.bytes(tag::KEY, key.expose()))?;
        let structure = writer.finish();
        let item = keyferry_ttlv::Item::parse(&structure)?;
        let reader = keyferry_ttlv::Reader::new(&structure, context(Version::V2_1));
        let mut block = KeyBlock::plain(
            KeyFormatType::TRANSPARENT_SYMMETRIC_KEY,
            Some((CryptographicAlgorithm::AES, 256)),
            Secret::new(&[]),
        );
        if let Some(KeyValue::Plain(plain)) = &mut block.key_value {
            plain.key_material =
                KeyMaterial::Structure(<Raw as keyferry_ttlv::Decode>::decode(item, &reader)?);
        }
        Ok(Object::SymmetricKey(Key {
            key_block: block.into(),
            extra: Extra::NONE,
        }))
    }

    fn pair(
        &mut self,
        n: u64,
        private_identifier: Text,
        private_format: KeyFormatType,
        public_format: KeyFormatType,
        algorithm: CryptographicAlgorithm,
        bits: i32,
    ) -> Result<Vec<Made>> {
        let (private, public) = if algorithm == CryptographicAlgorithm::RSA {
            let index = usize::try_from(n)? % self.rsa.len();
            let pair = self.rsa.get(index).ok_or("no RSA pair")?;
            (Secret::new(&pair.private), Secret::new(&pair.public))
        } else {
            let pair = self.crypto.ec_key_pair(Curve::P256)?;
            (Secret::new(&pair.private), Secret::new(&pair.public))
        };
        let public_identifier = self.identifier(n + 1);
        let key = |format, material| Key {
            key_block: KeyBlock::plain(format, Some((algorithm, bits)), material).into(),
            extra: Extra::NONE,
        };
        let private_link = (LinkType::PUBLIC_KEY_LINK, public_identifier.clone());
        let public_link = (LinkType::PRIVATE_KEY_LINK, private_identifier.clone());
        Ok(vec![
            self.finish(
                n,
                private_identifier,
                Object::PrivateKey(key(private_format, private)),
                Some(private_link),
            ),
            self.finish(
                n + 1,
                public_identifier,
                Object::PublicKey(key(public_format, public)),
                Some(public_link),
            ),
        ])
    }

    /// Gives an object its attributes and state.
    fn finish(
        &mut self,
        n: u64,
        identifier: Text,
        object: Object,
        link: Option<(LinkType, Text)>,
    ) -> Made {
        let object_type = object.object_type();
        let spread = i64::try_from(n % 100_000).unwrap_or(0);
        let born = DateTime(self.now.0 - 400 * DAY + spread);
        let later = |days: i64| DateTime(born.0 + days * DAY);
        let mut a = Attributes::new();
        a.push(V::Name(Name::text(format!("object {n:07}"))));
        if n.is_multiple_of(4) {
            a.push(V::Name(Name {
                name_type: NameType::URI,
                ..Name::text(format!("urn:example:key:{n}"))
            }));
        }
        a.push(V::ObjectGroup(format!("site {:02}", n % 40).into()));
        if n.is_multiple_of(5) {
            a.push(V::ObjectGroup("every fifth".into()));
        }
        if let Some(block) = object.key_block() {
            a.push(V::CryptographicUsageMask(
                CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
            ));
            if let (Some(algorithm), Some(bits)) =
                (block.cryptographic_algorithm, block.cryptographic_length)
            {
                a.push(V::CryptographicAlgorithm(algorithm));
                a.push(V::CryptographicLength(bits));
            }
            a.push(V::KeyFormatType(block.key_format_type));
        }
        if let Object::Certificate(certificate) = &object {
            a.push(V::CertificateType(certificate.certificate_type));
            a.push(V::CertificateLength(
                i32::try_from(certificate.value.len()).unwrap_or(0),
            ));
        }
        if let Some(bytes) = object.digestible() {
            a.push(V::Digest(Digest {
                hashing_algorithm: HashingAlgorithm::SHA_256,
                value: Some(self.crypto.sha256(&[bytes]).to_vec()),
                key_format_type: object.key_block().map(|block| block.key_format_type),
                extra: Extra::NONE,
            }));
        }
        if let Some((link_type, target)) = link {
            a.push(V::Link(Link {
                link_type,
                target: target.into(),
                extra: Extra::NONE,
            }));
        }
        if object_type == ObjectType::SYMMETRIC_KEY && n.is_multiple_of(2) {
            a.push(V::UsageLimits(UsageLimits {
                total: 1_000_000,
                count: Some(999_000),
                unit: UsageLimitsUnit::BYTE,
                extra: Extra::NONE,
            }));
            a.push(V::CryptographicParameters(Box::new(
                CryptographicParameters {
                    block_cipher_mode: Some(BlockCipherMode::CBC),
                    padding_method: Some(PaddingMethod::PKCS5),
                    ..CryptographicParameters::default()
                },
            )));
        }
        let information = |namespace: &str, data: String| {
            V::ApplicationSpecificInformation(ApplicationSpecificInformation {
                namespace: namespace.into(),
                data: Some(data.into()),
                extra: Extra::NONE,
            })
        };
        if n.is_multiple_of(3) {
            a.push(information("ssl", format!("www{n}.example.com")));
            a.push(information("backup", format!("tape {}", n % 17)));
        }
        a.push(V::ContactInformation("keys@example.com".into()));
        a.push(V::Custom(CustomAttribute::text("ID", format!("asset-{n}"))));
        a.push(V::Custom(CustomAttribute {
            vendor: "x".into(),
            name: "Cost".into(),
            value: Some(Value::Integer(7)),
        }));
        if n.is_multiple_of(6) {
            a.push(V::Custom(CustomAttribute {
                vendor: "y".into(),
                name: "Audited".into(),
                value: Some(Value::DateTime(later(30))),
            }));
            a.push(V::Custom(CustomAttribute {
                vendor: "acme.example".into(),
                name: "Tier".into(),
                value: Some(Value::Enumeration(2)),
            }));
            a.push(V::Description("made for the replication example".into()));
            a.push(V::QuantumSafe(false));
        }
        a.push(V::Sensitive(false));
        a.push(V::AlwaysSensitive(false));
        a.push(V::Extractable(true));
        a.push(V::NeverExtractable(false));
        a.push(V::Fresh(n.is_multiple_of(2)));
        a.push(V::LeaseTime(Interval(3600)));
        a.push(V::InitialDate(born));
        a.push(V::OriginalCreationDate(born));
        let state = self.age(n, object_type, &mut a, later);
        let destroyed = lifecycle::is_destroyed(state);
        Made {
            identifier,
            object_type,
            attributes: a,
            object: (!destroyed).then_some(object),
        }
    }

    /// The state, with the dates that belong to it.
    fn age(
        &self,
        n: u64,
        object_type: ObjectType,
        a: &mut Attributes,
        later: impl Fn(i64) -> DateTime,
    ) -> State {
        // The few RSA pairs are many objects' material, which must not be compromised in one of them alone.
        let shared = matches!(
            object_type,
            ObjectType::PRIVATE_KEY | ObjectType::PUBLIC_KEY
        ) && matches!(n % 16, 7 | 8);
        let state = match n.wrapping_mul(7) % 10 {
            0 | 1 => State::PRE_ACTIVE,
            2..=4 => State::ACTIVE,
            5 | 6 => State::DEACTIVATED,
            7 if !shared => State::COMPROMISED,
            8 => State::DESTROYED,
            9 if !shared => State::DESTROYED_COMPROMISED,
            _ => State::ACTIVE,
        };
        let reason = |code| {
            V::RevocationReason(RevocationReason {
                code,
                message: Some("as the example has it".into()),
                extra: Extra::NONE,
            })
        };
        let mut last = later(0);
        if state == State::PRE_ACTIVE {
            a.push(V::ActivationDate(later(4000)));
        } else {
            a.push(V::ActivationDate(later(1)));
            last = later(1);
        }
        if state == State::ACTIVE && n.is_multiple_of(2) {
            a.push(V::ProcessStartDate(later(2)));
            a.push(V::ProtectStopDate(later(3000)));
            a.push(V::DeactivationDate(later(4000)));
        }
        if matches!(state, State::DEACTIVATED | State::DESTROYED) {
            a.push(V::DeactivationDate(later(100)));
            a.push(reason(RevocationReasonCode::CESSATION_OF_OPERATION));
            last = later(100);
        }
        if lifecycle::is_compromised(state) {
            a.push(V::CompromiseOccurrenceDate(later(50)));
            a.push(V::CompromiseDate(later(60)));
            a.push(reason(RevocationReasonCode::KEY_COMPROMISE));
            last = later(60);
        }
        if lifecycle::is_destroyed(state) {
            a.push(V::DestroyDate(later(200)));
            last = later(200);
        }
        a.push(V::LastChangeDate(last));
        a.push(V::State(state));
        state
    }
}

fn certificate(n: u64) -> Result<Object> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![format!("host{n}.example.com")])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, format!("host {n}"));
    Ok(Object::certificate(
        CertificateType::X509,
        params.self_signed(&key)?.der().to_vec(),
    ))
}

fn send(client: &mut Client, messages: &[RequestMessage]) -> Result {
    let frames = messages
        .iter()
        .map(RequestMessage::to_frame)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    for answer in client.call_all(&frames)? {
        for item in ResponseMessage::from_frame(&answer)?.batch {
            if !item.is_success() {
                return Err(format!(
                    "filling failed: {:?} {:?}",
                    item.result_reason, item.result_message
                )
                .into());
            }
        }
    }
    Ok(())
}

/// Fills a server over the wire: most objects by Import, with everything that a long life gives them, and one in fifty by Create and
/// the operations of its life.
///
/// # Errors
/// When the server refuses one.
pub fn fill(
    client: &mut Client,
    objects: u64,
    now: DateTime,
    mut progress: impl FnMut(u64),
) -> Result {
    let cx = context(Version::V2_1);
    let mut maker = Maker::new(now)?;
    let (mut n, mut messages, mut items) = (0, Vec::new(), Vec::new());
    while n < objects {
        if n % 50 == 49 {
            messages.push(life(n, cx)?);
            n += 1;
        } else {
            for made in maker.make(n, n + 1 < objects && n % 50 != 48)? {
                let import = ImportRequest {
                    unique_identifier: made.identifier.into(),
                    object_type: Some(made.object_type),
                    replace_existing: None,
                    key_wrap_type: None,
                    attributes: made.attributes,
                    object: made.object,
                    extra: Extra::NONE,
                };
                items.push(RequestItem::new(&import, cx)?);
                n += 1;
            }
        }
        if items.len() >= 200 || n >= objects {
            if !items.is_empty() {
                messages.push(RequestMessage::new(
                    Version::V2_1,
                    std::mem::take(&mut items),
                ));
            }
            if messages.len() >= 24 || n >= objects {
                send(client, &messages)?;
                messages.clear();
                progress(n);
            }
        }
    }
    Ok(())
}

/// A key that lives through its operations in one message: the ID Placeholder carries it from one to the next.
fn life(n: u64, cx: keyferry_ttlv::Context) -> Result<RequestMessage> {
    let attributes = Attributes::new()
        .with(V::Name(Name::text(format!("lived {n:07}"))))
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(256))
        .with(V::CryptographicUsageMask(
            CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
        ));
    let create = CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: attributes.into(),
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    let mut items = vec![RequestItem::new(&create, cx)?];
    let stages = n / 50 % 4;
    if stages > 0 {
        items.push(RequestItem::new(
            &ActivateRequest {
                unique_identifier: None,
                extra: Extra::NONE,
            },
            cx,
        )?);
    }
    if stages > 1 {
        let code = if stages == 2 {
            RevocationReasonCode::KEY_COMPROMISE
        } else {
            RevocationReasonCode::SUPERSEDED
        };
        let revocation_reason = RevocationReason {
            code,
            message: None,
            extra: Extra::NONE,
        };
        let revoke = RevokeRequest {
            unique_identifier: None,
            revocation_reason,
            compromise_occurrence_date: None,
            extra: Extra::NONE,
        };
        items.push(RequestItem::new(&revoke, cx)?);
    }
    if stages > 2 {
        items.push(RequestItem::new(
            &DestroyRequest {
                unique_identifier: None,
                extra: Extra::NONE,
            },
            cx,
        )?);
    }
    Ok(RequestMessage::new(Version::V2_1, items))
}
