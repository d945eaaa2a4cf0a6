//! Who asks: the credentials in a request's header (KMIP 2.1 §9.4 and §9.11, 1.4 §2.1.2 and §6.6).

use crate::payload::data::LoginTicket;
use crate::secret::Secret;
use crate::spec::*;
use keyferry_ttlv::{
    DateTimeExtended, Decode, Downgrade, Encode, Extra, Item, Loss, Raw, Reader, Result, Tag,
    Tagged, Text, Version, Writer,
};

/// A text that is a secret: wiped, masked, compared in constant time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Password(Secret);

impl Password {
    /// The text. Named so that every place that reads it is easy to find.
    pub fn expose(&self) -> &str {
        // It was a text when it was made.
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        Password(Secret::new(text.as_bytes()))
    }
}

impl Decode for Password {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        item.text(r).map(Password::from)
    }
}

impl Encode for Password {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.text(tag, self.expose())
    }
}

/// The credentials of a request (KMIP 2.1 §9.4, since 1.0); several since 1.2.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::AUTHENTICATION)]
pub struct Authentication {
    /// The credentials.
    #[ttlv(repeated_since = "1.2")]
    pub credentials: Vec<Credential>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A Credential (KMIP 2.1 §9.11, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// Its value, whose fields depend on its type.
    pub value: CredentialValue,
    /// Other fields.
    pub extra: Extra,
}

impl From<CredentialValue> for Credential {
    fn from(value: CredentialValue) -> Self {
        Credential {
            value,
            extra: Extra::NONE,
        }
    }
}

/// The value of a [`Credential`].
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum CredentialValue {
    UsernameAndPassword(UsernameAndPassword),
    /// Since 1.1.
    Device(Box<Device>),
    /// Since 1.2.
    Attestation(Box<Attestation>),
    /// Since 2.0.
    OneTimePassword(OneTimePassword),
    /// Since 2.0.
    HashedPassword(HashedPassword),
    /// Since 2.0.
    Ticket(TicketCredential),
    /// A credential of a type that is not known here, with its value as it came.
    Other(CredentialType, Raw),
}

structures! {
    /// A name and a password (KMIP 2.1 §9.11, since 1.0).
    UsernameAndPassword = CREDENTIAL_VALUE {
        #[ttlv(tag = tag::USERNAME)]
        username: Text,
        #[ttlv(tag = tag::PASSWORD)]
        password: Option<Password>,
    }
    /// The numbers and names that identify a device (KMIP 2.1 §9.11, since 1.1).
    #[derive(Default)]
    Device = CREDENTIAL_VALUE {
        #[ttlv(tag = tag::DEVICE_SERIAL_NUMBER)]
        device_serial_number: Option<Text>,
        #[ttlv(tag = tag::PASSWORD)]
        password: Option<Password>,
        #[ttlv(tag = tag::DEVICE_IDENTIFIER)]
        device_identifier: Option<Text>,
        #[ttlv(tag = tag::NETWORK_IDENTIFIER)]
        network_identifier: Option<Text>,
        #[ttlv(tag = tag::MACHINE_IDENTIFIER)]
        machine_identifier: Option<Text>,
        #[ttlv(tag = tag::MEDIA_IDENTIFIER)]
        media_identifier: Option<Text>,
    }
    /// An attestation by a third party (KMIP 2.1 §9.11, since 1.2).
    Attestation = CREDENTIAL_VALUE {
        nonce: Nonce,
        attestation_type: AttestationType,
        #[ttlv(tag = tag::ATTESTATION_MEASUREMENT)]
        measurement: Option<Vec<u8>>,
        #[ttlv(tag = tag::ATTESTATION_ASSERTION)]
        assertion: Option<Vec<u8>>,
    }
    /// A password that is used once (KMIP 2.1 §9.11, since 2.0).
    OneTimePassword = CREDENTIAL_VALUE {
        #[ttlv(tag = tag::USERNAME)]
        username: Text,
        #[ttlv(tag = tag::PASSWORD)]
        password: Option<Password>,
        #[ttlv(tag = tag::ONE_TIME_PASSWORD)]
        one_time_password: Password,
    }
    /// A password that is not sent itself (KMIP 2.1 §9.11, since 2.0).
    HashedPassword = CREDENTIAL_VALUE {
        #[ttlv(tag = tag::USERNAME)]
        username: Text,
        #[ttlv(tag = tag::TIME_STAMP)]
        timestamp: DateTimeExtended,
        hashing_algorithm: Option<HashingAlgorithm>,
        #[ttlv(tag = tag::HASHED_PASSWORD)]
        hashed_password: Secret,
    }
    /// A ticket that a Login gave (KMIP 2.1 §9.11, since 2.0).
    TicketCredential = CREDENTIAL_VALUE {
        ticket: LoginTicket,
    }
}

/// A server's challenge (KMIP 2.1 §9.14, since 1.2).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::NONCE)]
pub struct Nonce {
    /// Names it.
    #[ttlv(tag = tag::NONCE_ID)]
    pub id: Vec<u8>,
    /// Its value.
    #[ttlv(tag = tag::NONCE_VALUE)]
    pub value: Vec<u8>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl CredentialValue {
    /// The type of a credential with this value.
    pub fn credential_type(&self) -> CredentialType {
        match self {
            CredentialValue::UsernameAndPassword(_) => CredentialType::USERNAME_AND_PASSWORD,
            CredentialValue::Device(_) => CredentialType::DEVICE,
            CredentialValue::Attestation(_) => CredentialType::ATTESTATION,
            CredentialValue::OneTimePassword(_) => CredentialType::ONE_TIME_PASSWORD,
            CredentialValue::HashedPassword(_) => CredentialType::HASHED_PASSWORD,
            CredentialValue::Ticket(_) => CredentialType::TICKET,
            CredentialValue::Other(credential_type, _) => *credential_type,
        }
    }
}

impl Tagged for Credential {
    const TAG: Tag = tag::CREDENTIAL;
}

/// The form of a credential in a message.
#[derive(Decode)]
struct Form {
    credential_type: CredentialType,
    #[ttlv(tag = tag::CREDENTIAL_VALUE)]
    value: Raw,
    #[ttlv(extra)]
    extra: Extra,
}

impl Decode for Credential {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let Form {
            credential_type,
            value,
            extra,
        } = Form::decode(item, r)?;
        let cx = r.context();
        let value = match credential_type {
            CredentialType::USERNAME_AND_PASSWORD => {
                CredentialValue::UsernameAndPassword(value.read(cx)?)
            }
            CredentialType::DEVICE => CredentialValue::Device(value.read(cx)?),
            CredentialType::ATTESTATION => CredentialValue::Attestation(value.read(cx)?),
            CredentialType::ONE_TIME_PASSWORD => CredentialValue::OneTimePassword(value.read(cx)?),
            CredentialType::HASHED_PASSWORD => CredentialValue::HashedPassword(value.read(cx)?),
            CredentialType::TICKET => CredentialValue::Ticket(value.read(cx)?),
            other => CredentialValue::Other(other, value),
        };
        Ok(Credential { value, extra })
    }
}

impl Encode for Credential {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.structure(tag, |w| {
            let under = tag::CREDENTIAL_VALUE;
            self.value
                .credential_type()
                .encode(tag::CREDENTIAL_TYPE, w)?;
            match &self.value {
                CredentialValue::UsernameAndPassword(value) => value.encode(under, w),
                CredentialValue::Device(value) => value.encode(under, w),
                CredentialValue::Attestation(value) => value.encode(under, w),
                CredentialValue::OneTimePassword(value) => value.encode(under, w),
                CredentialValue::HashedPassword(value) => value.encode(under, w),
                CredentialValue::Ticket(value) => value.encode(under, w),
                CredentialValue::Other(_, raw) => raw.encode(under, w),
            }?;
            self.extra.write(w);
            Ok(())
        })
    }
}

/// A credential is not changed: another one would be somebody else's.
impl Downgrade for Credential {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        self.value.credential_type().downgrade(version, loss)
    }
}
