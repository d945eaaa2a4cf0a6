//! Cryptographic services: Encrypt, Decrypt, Sign, Signature Verify, MAC, Hash, RNG (since 1.2).

use super::payloads;
use crate::attribute::structure::CryptographicParameters;
use crate::identifier::UniqueIdentifier;
use crate::secret::Secret;
use crate::spec::*;
use keyferry_ttlv::{
    Decode, Downgrade, Encode, Extra, Item, Reader, Result, Tag, Tagged, Type, Version, Writer,
};

payloads! {
    /// KMIP 2.1 §6.1.17, since 1.2.
    #[derive(Default)]
    EncryptRequest: ENCRYPT {
        unique_identifier: Option<UniqueIdentifier>,
        cryptographic_parameters: Option<Box<CryptographicParameters>>,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::IV_COUNTER_NONCE)]
        iv_counter_nonce: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
        #[ttlv(tag = tag::AUTHENTICATED_ENCRYPTION_ADDITIONAL_DATA, since = "1.4", vital)]
        authenticated_encryption_additional_data: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.17, since 1.2.
    EncryptResponse: ENCRYPT {
        unique_identifier: UniqueIdentifier,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::IV_COUNTER_NONCE)]
        iv_counter_nonce: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::AUTHENTICATED_ENCRYPTION_TAG, since = "1.4", vital)]
        authenticated_encryption_tag: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.11, since 1.2.
    #[derive(Default)]
    DecryptRequest: DECRYPT {
        unique_identifier: Option<UniqueIdentifier>,
        cryptographic_parameters: Option<Box<CryptographicParameters>>,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::IV_COUNTER_NONCE)]
        iv_counter_nonce: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
        #[ttlv(tag = tag::AUTHENTICATED_ENCRYPTION_ADDITIONAL_DATA, since = "1.4", vital)]
        authenticated_encryption_additional_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::AUTHENTICATED_ENCRYPTION_TAG, since = "1.4", vital)]
        authenticated_encryption_tag: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.11, since 1.2.
    DecryptResponse: DECRYPT {
        unique_identifier: UniqueIdentifier,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.55, since 1.2.
    #[derive(Default)]
    SignRequest: SIGN {
        unique_identifier: Option<UniqueIdentifier>,
        cryptographic_parameters: Option<Box<CryptographicParameters>>,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::DIGESTED_DATA, since = "1.4", vital)]
        digested_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
    }
    /// KMIP 2.1 §6.1.55, since 1.2.
    SignResponse: SIGN {
        unique_identifier: UniqueIdentifier,
        #[ttlv(tag = tag::SIGNATURE_DATA, required_until = "1.2")]
        signature_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.56, since 1.2.
    #[derive(Default)]
    SignatureVerifyRequest: SIGNATURE_VERIFY {
        unique_identifier: Option<UniqueIdentifier>,
        cryptographic_parameters: Option<Box<CryptographicParameters>>,
        data: Option<Data>,
        #[ttlv(tag = tag::DIGESTED_DATA, since = "1.4", vital)]
        digested_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::SIGNATURE_DATA, required_until = "1.2")]
        signature_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
    }
    /// KMIP 2.1 §6.1.56, since 1.2.
    SignatureVerifyResponse: SIGNATURE_VERIFY {
        unique_identifier: UniqueIdentifier,
        #[ttlv(required_until = "1.2")]
        validity_indicator: Option<ValidityIndicator>,
        data: Option<Data>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.32, since 1.2.
    #[derive(Default)]
    MacRequest: MAC {
        unique_identifier: Option<UniqueIdentifier>,
        cryptographic_parameters: Option<Box<CryptographicParameters>>,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
    }
    /// KMIP 2.1 §6.1.32, since 1.2.
    MacResponse: MAC {
        unique_identifier: UniqueIdentifier,
        #[ttlv(tag = tag::MAC_DATA, required_until = "1.2")]
        mac_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.33, since 1.2.
    #[derive(Default)]
    MacVerifyRequest: MAC_VERIFY {
        unique_identifier: Option<UniqueIdentifier>,
        cryptographic_parameters: Option<Box<CryptographicParameters>>,
        data: Option<Data>,
        #[ttlv(tag = tag::MAC_DATA, required_until = "1.2")]
        mac_data: Option<Vec<u8>>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
    }
    /// KMIP 2.1 §6.1.33, since 1.2.
    MacVerifyResponse: MAC_VERIFY {
        unique_identifier: UniqueIdentifier,
        #[ttlv(required_until = "1.2")]
        validity_indicator: Option<ValidityIndicator>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.24, since 1.2.
    HashRequest: HASH {
        cryptographic_parameters: CryptographicParameters,
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
        #[ttlv(tag = tag::INIT_INDICATOR, since = "1.3", vital)]
        init_indicator: Option<bool>,
        #[ttlv(tag = tag::FINAL_INDICATOR, since = "1.3", vital)]
        final_indicator: Option<bool>,
    }
    /// KMIP 2.1 §6.1.24, since 1.2.
    #[derive(Default)]
    HashResponse: HASH {
        #[ttlv(required_until = "1.2")]
        data: Option<Data>,
        #[ttlv(tag = tag::CORRELATION_VALUE, since = "1.3", vital)]
        correlation_value: Option<Vec<u8>>,
    }
    /// KMIP 2.1 §6.1.49, since 1.2.
    RngRetrieveRequest: RNG_RETRIEVE {
        /// In bytes.
        #[ttlv(tag = tag::DATA_LENGTH)]
        data_length: i32,
    }
    /// KMIP 2.1 §6.1.49, since 1.2.
    RngRetrieveResponse: RNG_RETRIEVE {
        data: Data,
    }
    /// KMIP 2.1 §6.1.50, since 1.2.
    RngSeedRequest: RNG_SEED {
        data: Data,
    }
    /// KMIP 2.1 §6.1.50, since 1.2.
    RngSeedResponse: RNG_SEED {
        /// In bytes.
        #[ttlv(tag = tag::DATA_LENGTH)]
        data_length: i32,
    }
}

/// The data of a cryptographic operation (KMIP 2.1 §7.9, since 1.2): bytes, or since 2.0 those of an earlier item of the batch.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// The bytes.
    Bytes(Secret),
    /// The output of an earlier operation of the batch, since 2.0.
    Enumeration(DataEnumeration),
    /// The n-th data of the response, from 0, or counted back from this item when negative, since 2.0.
    Integer(i32),
}

impl Tagged for Data {
    const TAG: Tag = tag::DATA;
}

impl Decode for Data {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        let references = r.version() >= Version::V2_0;
        Ok(match item.ty() {
            Type::Enumeration if references => Data::Enumeration(DataEnumeration::decode(item, r)?),
            Type::Integer if references => Data::Integer(item.integer(r)?),
            _ => Data::Bytes(Secret::decode(item, r)?),
        })
    }
}

impl Encode for Data {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        if !matches!(self, Data::Bytes(_)) {
            w.require(tag, Version::V2_0, None)?;
        }
        match self {
            Data::Bytes(bytes) => bytes.encode(tag, w),
            Data::Enumeration(value) => value.encode(tag, w),
            Data::Integer(place) => place.encode(tag, w),
        }
    }
}
