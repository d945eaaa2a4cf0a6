//! Enumerations of the object group: one row a value (KMIP 2.1 §11, 1.4 §9.1.3.2).

use crate::spec::domain::enumerations;

enumerations! {
    CertificateType = CERTIFICATE_TYPE, "Certificate Type" {
        X509 = 0x1, "X.509", V1_0;
        PGP = 0x2, "PGP", V1_0;
    }
    SecretDataType = SECRET_DATA_TYPE, "Secret Data Type" {
        PASSWORD = 0x1, "Password", V1_0;
        SEED = 0x2, "Seed", V1_0;
    }
    NameType = NAME_TYPE, "Name Type" {
        UNINTERPRETED_TEXT_STRING = 0x1, "Uninterpreted Text String", V1_0;
        URI = 0x2, "URI", V1_0;
    }
    ObjectType = OBJECT_TYPE, "Object Type" {
        CERTIFICATE = 0x1, "Certificate", V1_0;
        SYMMETRIC_KEY = 0x2, "Symmetric Key", V1_0;
        PUBLIC_KEY = 0x3, "Public Key", V1_0;
        PRIVATE_KEY = 0x4, "Private Key", V1_0;
        SPLIT_KEY = 0x5, "Split Key", V1_0;
        TEMPLATE = 0x6, "Template", V1_0..V1_4;
        SECRET_DATA = 0x7, "Secret Data", V1_0;
        OPAQUE_OBJECT = 0x8, "Opaque Object", V1_0;
        PGP_KEY = 0x9, "PGP Key", V1_2;
        CERTIFICATE_REQUEST = 0xA, "Certificate Request", V2_0;
        USER = 0xB, "User", V3_0;
        GROUP = 0xC, "Group", V3_0;
        PASSWORD_CREDENTIAL = 0xD, "Password Credential", V3_0;
        DEVICE_CREDENTIAL = 0xE, "Device Credential", V3_0;
        ONE_TIME_PASSWORD_CREDENTIAL = 0xF, "One Time Password Credential", V3_0;
        HASHED_PASSWORD_CREDENTIAL = 0x10, "Hashed Password Credential", V3_0;
    }
    State = STATE, "State" {
        PRE_ACTIVE = 0x1, "Pre-Active", V1_0;
        ACTIVE = 0x2, "Active", V1_0;
        DEACTIVATED = 0x3, "Deactivated", V1_0;
        COMPROMISED = 0x4, "Compromised", V1_0;
        DESTROYED = 0x5, "Destroyed", V1_0;
        DESTROYED_COMPROMISED = 0x6, "Destroyed Compromised", V1_0;
    }
    RevocationReasonCode = REVOCATION_REASON_CODE, "Revocation Reason Code" {
        UNSPECIFIED = 0x1, "Unspecified", V1_0;
        KEY_COMPROMISE = 0x2, "Key Compromise", V1_0;
        CA_COMPROMISE = 0x3, "CA Compromise", V1_0;
        AFFILIATION_CHANGED = 0x4, "Affiliation Changed", V1_0;
        SUPERSEDED = 0x5, "Superseded", V1_0;
        CESSATION_OF_OPERATION = 0x6, "Cessation of Operation", V1_0;
        PRIVILEGE_WITHDRAWN = 0x7, "Privilege Withdrawn", V1_0;
    }
    LinkType = LINK_TYPE, "Link Type" {
        CERTIFICATE_LINK = 0x101, "Certificate Link", V1_0;
        PUBLIC_KEY_LINK = 0x102, "Public Key Link", V1_0;
        PRIVATE_KEY_LINK = 0x103, "Private Key Link", V1_0;
        DERIVATION_BASE_OBJECT_LINK = 0x104, "Derivation Base Object Link", V1_0;
        DERIVED_KEY_LINK = 0x105, "Derived Key Link", V1_0;
        REPLACEMENT_OBJECT_LINK = 0x106, "Replacement Object Link", V1_0;
        REPLACED_OBJECT_LINK = 0x107, "Replaced Object Link", V1_0;
        PARENT_LINK = 0x108, "Parent Link", V1_2;
        CHILD_LINK = 0x109, "Child Link", V1_2;
        PREVIOUS_LINK = 0x10A, "Previous Link", V1_2;
        NEXT_LINK = 0x10B, "Next Link", V1_2;
        PKCS_12_CERTIFICATE_LINK = 0x10C, "PKCS#12 Certificate Link", V1_4;
        PKCS_12_PASSWORD_LINK = 0x10D, "PKCS#12 Password Link", V1_4;
        WRAPPING_KEY_LINK = 0x10E, "Wrapping Key Link", V2_0;
    }
    CertificateRequestType = CERTIFICATE_REQUEST_TYPE, "Certificate Request Type" {
        CRMF = 0x1, "CRMF", V1_0;
        PKCS_10 = 0x2, "PKCS#10", V1_0;
        PEM = 0x3, "PEM", V1_0;
        PGP = 0x4, "PGP", V1_0..V1_4;
    }
    UsageLimitsUnit = USAGE_LIMITS_UNIT, "Usage Limits Unit" {
        BYTE = 0x1, "Byte", V1_0;
        OBJECT = 0x2, "Object", V1_0;
    }
    AlternativeNameType = ALTERNATIVE_NAME_TYPE, "Alternative Name Type" {
        UNINTERPRETED_TEXT_STRING = 0x1, "Uninterpreted Text String", V1_2;
        URI = 0x2, "URI", V1_2;
        OBJECT_SERIAL_NUMBER = 0x3, "Object Serial Number", V1_2;
        EMAIL_ADDRESS = 0x4, "Email Address", V1_2;
        DNS_NAME = 0x5, "DNS Name", V1_2;
        X_500_DISTINGUISHED_NAME = 0x6, "X.500 Distinguished Name", V1_2;
        IP_ADDRESS = 0x7, "IP Address", V1_2;
    }
    KeyValueLocationType = KEY_VALUE_LOCATION_TYPE, "Key Value Location Type" {
        UNINTERPRETED_TEXT_STRING = 0x1, "Uninterpreted Text String", V1_2;
        URI = 0x2, "URI", V1_2;
    }
    ProtectionLevel = PROTECTION_LEVEL, "Protection Level" {
        HIGH = 0x1, "High", V2_0;
        LOW = 0x2, "Low", V2_0;
    }
    RotateNameType = ROTATE_NAME_TYPE, "Rotate Name Type" {
        UNINTERPRETED_TEXT_STRING = 0x1, "Uninterpreted Text String", V2_1;
        URI = 0x2, "URI", V2_1;
    }
    DeactivationReasonCode = DEACTIVATION_REASON_CODE, "Deactivation Reason Code" {
        UNSPECIFIED = 0x1, "Unspecified", V3_0;
        DEACTIVATION_DATE = 0x2, "Deactivation Date", V3_0;
        PROTECT_STOP_DATE = 0x3, "Protect Stop Date", V3_0;
        USAGE_LIMIT = 0x4, "Usage Limit", V3_0;
    }
}
