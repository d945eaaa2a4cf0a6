//! Enumerations of the message group: one row a value (KMIP 2.1 §11, 1.4 §9.1.3.2).

use crate::spec::domain::enumerations;

enumerations! {
    AdjustmentType = ADJUSTMENT_TYPE, "Adjustment Type" {
        INCREMENT = 0x1, "Increment", V2_0;
        DECREMENT = 0x2, "Decrement", V2_0;
        NEGATE = 0x3, "Negate", V2_0;
    }
    AsynchronousIndicator = ASYNCHRONOUS_INDICATOR, "Asynchronous Indicator" {
        MANDATORY = 0x1, "Mandatory", V2_0;
        OPTIONAL = 0x2, "Optional", V2_0;
        PROHIBITED = 0x3, "Prohibited", V2_0;
    }
    AttestationType = ATTESTATION_TYPE, "Attestation Type" {
        TPM_QUOTE = 0x1, "TPM Quote", V1_2;
        TCG_INTEGRITY_REPORT = 0x2, "TCG Integrity Report", V1_2;
        SAML_ASSERTION = 0x3, "SAML Assertion", V1_2;
    }
    BatchErrorContinuationOption = BATCH_ERROR_CONTINUATION_OPTION, "Batch Error Continuation Option" {
        CONTINUE = 0x1, "Continue", V1_0;
        STOP = 0x2, "Stop", V1_0;
        UNDO = 0x3, "Undo", V1_0;
    }
    CancellationResult = CANCELLATION_RESULT, "Cancellation Result" {
        CANCELED = 0x1, "Canceled", V1_0;
        UNABLE_TO_CANCEL = 0x2, "Unable to Cancel", V1_0;
        COMPLETED = 0x3, "Completed", V1_0;
        FAILED = 0x4, "Failed", V1_0;
        UNAVAILABLE = 0x5, "Unavailable", V1_0;
    }
    ClientRegistrationMethod = CLIENT_REGISTRATION_METHOD, "Client Registration Method" {
        UNSPECIFIED = 0x1, "Unspecified", V1_3;
        SERVER_PRE_GENERATED = 0x2, "Server Pre-Generated", V1_3;
        SERVER_ON_DEMAND = 0x3, "Server On-Demand", V1_3;
        CLIENT_GENERATED = 0x4, "Client Generated", V1_3;
        CLIENT_REGISTERED = 0x5, "Client Registered", V1_3;
    }
    CredentialType = CREDENTIAL_TYPE, "Credential Type" {
        USERNAME_AND_PASSWORD = 0x1, "Username and Password", V1_0;
        DEVICE = 0x2, "Device", V1_1;
        ATTESTATION = 0x3, "Attestation", V1_2;
        ONE_TIME_PASSWORD = 0x4, "One Time Password", V2_0;
        HASHED_PASSWORD = 0x5, "Hashed Password", V2_0;
        TICKET = 0x6, "Ticket", V2_0;
        PASSWORD = 0x7, "Password", V3_0;
        CERTIFICATE = 0x8, "Certificate", V3_0;
    }
    DataEnumeration = DATA, "Data" {
        DECRYPT = 0x1, "Decrypt", V2_0;
        ENCRYPT = 0x2, "Encrypt", V2_0;
        HASH = 0x3, "Hash", V2_0;
        MAC_MAC_DATA = 0x4, "MAC MAC Data", V2_0;
        RNG_RETRIEVE = 0x5, "RNG Retrieve", V2_0;
        SIGN_SIGNATURE_DATA = 0x6, "Sign Signature Data", V2_0;
        SIGNATURE_VERIFY = 0x7, "Signature Verify", V2_0;
    }
    DestroyAction = DESTROY_ACTION, "Destroy Action" {
        UNSPECIFIED = 0x1, "Unspecified", V1_3;
        KEY_MATERIAL_DELETED = 0x2, "Key Material Deleted", V1_3;
        KEY_MATERIAL_SHREDDED = 0x3, "Key Material Shredded", V1_3;
        META_DATA_DELETED = 0x4, "Meta Data Deleted", V1_3;
        META_DATA_SHREDDED = 0x5, "Meta Data Shredded", V1_3;
        DELETED = 0x6, "Deleted", V1_3;
        SHREDDED = 0x7, "Shredded", V1_3;
    }
    EndpointRole = ENDPOINT_ROLE, "Endpoint Role" {
        CLIENT = 0x1, "Client", V2_0;
        SERVER = 0x2, "Server", V2_0;
    }
    Ephemeral = EPHEMERAL, "Ephemeral" {
        DATA = 0x1, "Data", V3_0;
        EMPTY = 0x2, "Empty", V3_0;
        UNIQUE_IDENTIFIER = 0x3, "Unique Identifier", V3_0;
    }
    InteropFunction = INTEROP_FUNCTION, "Interop Function" {
        BEGIN = 0x1, "Begin", V2_0;
        END = 0x2, "End", V2_0;
        RESET = 0x3, "Reset", V2_0;
    }
    ItemType = -, "Item Type" {
        STRUCTURE = 0x1, "Structure", V2_0;
        INTEGER = 0x2, "Integer", V2_0;
        LONG_INTEGER = 0x3, "Long Integer", V2_0;
        BIG_INTEGER = 0x4, "Big Integer", V2_0;
        ENUMERATION = 0x5, "Enumeration", V2_0;
        BOOLEAN = 0x6, "Boolean", V2_0;
        TEXT_STRING = 0x7, "Text String", V2_0;
        BYTE_STRING = 0x8, "Byte String", V2_0;
        DATE_TIME = 0x9, "Date Time", V2_0;
        INTERVAL = 0xA, "Interval", V2_0;
        DATE_TIME_EXTENDED = 0xB, "Date Time Extended", V2_0;
        IDENTIFIER = 0xC, "Identifier", V3_0;
        REFERENCE = 0xD, "Reference", V3_0;
        NAME_REFERENCE = 0xE, "Name Reference", V3_0;
    }
    OTPAlgorithm = OTP_ALGORITHM, "OTP Algorithm" {
        HOTP = 0x1, "HOTP", V3_0;
        TOTP = 0x2, "TOTP", V3_0;
    }
    ObjectClass = OBJECT_CLASS, "Object Class" {
        USER = 0x1, "User", V3_0;
        SYSTEM = 0x2, "System", V3_0;
    }
    ObjectGroupMember = OBJECT_GROUP_MEMBER, "Object Group Member" {
        GROUP_MEMBER_FRESH = 0x1, "Group Member Fresh", V1_1;
        GROUP_MEMBER_DEFAULT = 0x2, "Group Member Default", V1_1;
    }
    Operation = OPERATION, "Operation" {
        CREATE = 0x1, "Create", V1_0;
        CREATE_KEY_PAIR = 0x2, "Create Key Pair", V1_0;
        REGISTER = 0x3, "Register", V1_0;
        RE_KEY = 0x4, "Re-key", V1_0;
        DERIVE_KEY = 0x5, "Derive Key", V1_0;
        CERTIFY = 0x6, "Certify", V1_0;
        RE_CERTIFY = 0x7, "Re-certify", V1_0;
        LOCATE = 0x8, "Locate", V1_0;
        CHECK = 0x9, "Check", V1_0;
        GET = 0xA, "Get", V1_0;
        GET_ATTRIBUTES = 0xB, "Get Attributes", V1_0;
        GET_ATTRIBUTE_LIST = 0xC, "Get Attribute List", V1_0;
        ADD_ATTRIBUTE = 0xD, "Add Attribute", V1_0;
        MODIFY_ATTRIBUTE = 0xE, "Modify Attribute", V1_0;
        DELETE_ATTRIBUTE = 0xF, "Delete Attribute", V1_0;
        OBTAIN_LEASE = 0x10, "Obtain Lease", V1_0;
        GET_USAGE_ALLOCATION = 0x11, "Get Usage Allocation", V1_0;
        ACTIVATE = 0x12, "Activate", V1_0;
        REVOKE = 0x13, "Revoke", V1_0;
        DESTROY = 0x14, "Destroy", V1_0;
        ARCHIVE = 0x15, "Archive", V1_0;
        RECOVER = 0x16, "Recover", V1_0;
        VALIDATE = 0x17, "Validate", V1_0;
        QUERY = 0x18, "Query", V1_0;
        CANCEL = 0x19, "Cancel", V1_0;
        POLL = 0x1A, "Poll", V1_0;
        NOTIFY = 0x1B, "Notify", V1_0;
        PUT = 0x1C, "Put", V1_0;
        RE_KEY_KEY_PAIR = 0x1D, "Re-key Key Pair", V1_1;
        DISCOVER_VERSIONS = 0x1E, "Discover Versions", V1_1;
        ENCRYPT = 0x1F, "Encrypt", V1_2;
        DECRYPT = 0x20, "Decrypt", V1_2;
        SIGN = 0x21, "Sign", V1_2;
        SIGNATURE_VERIFY = 0x22, "Signature Verify", V1_2;
        MAC = 0x23, "MAC", V1_2;
        MAC_VERIFY = 0x24, "MAC Verify", V1_2;
        RNG_RETRIEVE = 0x25, "RNG Retrieve", V1_2;
        RNG_SEED = 0x26, "RNG Seed", V1_2;
        HASH = 0x27, "Hash", V1_2;
        CREATE_SPLIT_KEY = 0x28, "Create Split Key", V1_2;
        JOIN_SPLIT_KEY = 0x29, "Join Split Key", V1_2;
        IMPORT = 0x2A, "Import", V1_4;
        EXPORT = 0x2B, "Export", V1_4;
        LOG = 0x2C, "Log", V2_0;
        LOGIN = 0x2D, "Login", V2_0;
        LOGOUT = 0x2E, "Logout", V2_0;
        DELEGATED_LOGIN = 0x2F, "Delegated Login", V2_0;
        ADJUST_ATTRIBUTE = 0x30, "Adjust Attribute", V2_0;
        SET_ATTRIBUTE = 0x31, "Set Attribute", V2_0;
        SET_ENDPOINT_ROLE = 0x32, "Set Endpoint Role", V2_0;
        PKCS_11 = 0x33, "PKCS#11", V2_0;
        INTEROP = 0x34, "Interop", V2_0;
        RE_PROVISION = 0x35, "Re-Provision", V2_0;
        SET_DEFAULTS = 0x36, "Set Defaults", V2_1;
        SET_CONSTRAINTS = 0x37, "Set Constraints", V2_1;
        GET_CONSTRAINTS = 0x38, "Get Constraints", V2_1;
        QUERY_ASYNCHRONOUS_REQUESTS = 0x39, "Query Asynchronous Requests", V2_1;
        PROCESS = 0x3A, "Process", V2_1;
        PING = 0x3B, "Ping", V2_1;
        CREATE_GROUP = 0x3C, "Create Group", V3_0;
        OBLITERATE = 0x3D, "Obliterate", V3_0;
        CREATE_USER = 0x3E, "Create User", V3_0;
        CREATE_CREDENTIAL = 0x3F, "Create Credential", V3_0;
        DEACTIVATE = 0x40, "Deactivate", V3_0;
    }
    ProcessingStage = PROCESSING_STAGE, "Processing Stage" {
        SUBMITTED = 0x1, "Submitted", V2_1;
        IN_PROCESS = 0x2, "In Process", V2_1;
        COMPLETED = 0x3, "Completed", V2_1;
    }
    PutFunction = PUT_FUNCTION, "Put Function" {
        NEW = 0x1, "New", V1_0;
        REPLACE = 0x2, "Replace", V1_0;
    }
    QueryFunction = QUERY_FUNCTION, "Query Function" {
        QUERY_OPERATIONS = 0x1, "Query Operations", V1_0;
        QUERY_OBJECTS = 0x2, "Query Objects", V1_0;
        QUERY_SERVER_INFORMATION = 0x3, "Query Server Information", V1_0;
        QUERY_APPLICATION_NAMESPACES = 0x4, "Query Application Namespaces", V1_0;
        QUERY_EXTENSION_LIST = 0x5, "Query Extension List", V1_1;
        QUERY_EXTENSION_MAP = 0x6, "Query Extension Map", V1_1;
        QUERY_ATTESTATION_TYPES = 0x7, "Query Attestation Types", V1_2;
        QUERY_RNGS = 0x8, "Query RNGs", V1_3;
        QUERY_VALIDATIONS = 0x9, "Query Validations", V1_3;
        QUERY_PROFILES = 0xA, "Query Profiles", V1_3;
        QUERY_CAPABILITIES = 0xB, "Query Capabilities", V1_3;
        QUERY_CLIENT_REGISTRATION_METHODS = 0xC, "Query Client Registration Methods", V1_3;
        QUERY_DEFAULTS_INFORMATION = 0xD, "Query Defaults Information", V2_0;
        QUERY_STORAGE_PROTECTION_MASKS = 0xE, "Query Storage Protection Masks", V2_0;
        QUERY_CREDENTIAL_INFORMATION = 0xF, "Query Credential Information", V3_0;
    }
    ResultReason = RESULT_REASON, "Result Reason" {
        ITEM_NOT_FOUND = 0x1, "Item Not Found", V1_0;
        RESPONSE_TOO_LARGE = 0x2, "Response Too Large", V1_0;
        AUTHENTICATION_NOT_SUCCESSFUL = 0x3, "Authentication Not Successful", V1_0;
        INVALID_MESSAGE = 0x4, "Invalid Message", V1_0;
        OPERATION_NOT_SUPPORTED = 0x5, "Operation Not Supported", V1_0;
        MISSING_DATA = 0x6, "Missing Data", V1_0;
        INVALID_FIELD = 0x7, "Invalid Field", V1_0;
        FEATURE_NOT_SUPPORTED = 0x8, "Feature Not Supported", V1_0;
        OPERATION_CANCELED_BY_REQUESTER = 0x9, "Operation Canceled By Requester", V1_0;
        CRYPTOGRAPHIC_FAILURE = 0xA, "Cryptographic Failure", V1_0;
        ILLEGAL_OPERATION = 0xB, "Illegal Operation", V1_0..V1_4;
        PERMISSION_DENIED = 0xC, "Permission Denied", V1_0;
        OBJECT_ARCHIVED = 0xD, "Object Archived", V1_0;
        INDEX_OUT_OF_BOUNDS = 0xE, "Index Out of Bounds", V1_0..V1_4;
        APPLICATION_NAMESPACE_NOT_SUPPORTED = 0xF, "Application Namespace Not Supported", V1_0;
        KEY_FORMAT_TYPE_NOT_SUPPORTED = 0x10, "Key Format Type Not Supported", V1_0;
        KEY_COMPRESSION_TYPE_NOT_SUPPORTED = 0x11, "Key Compression Type Not Supported", V1_0;
        ENCODING_OPTION_ERROR = 0x12, "Encoding Option Error", V1_1;
        KEY_VALUE_NOT_PRESENT = 0x13, "Key Value Not Present", V1_2;
        ATTESTATION_REQUIRED = 0x14, "Attestation Required", V1_2;
        ATTESTATION_FAILED = 0x15, "Attestation Failed", V1_2;
        SENSITIVE = 0x16, "Sensitive", V1_4;
        NOT_EXTRACTABLE = 0x17, "Not Extractable", V1_4;
        OBJECT_ALREADY_EXISTS = 0x18, "Object Already Exists", V1_4;
        INVALID_TICKET = 0x19, "Invalid Ticket", V2_0;
        USAGE_LIMIT_EXCEEDED = 0x1A, "Usage Limit Exceeded", V2_0;
        NUMERIC_RANGE = 0x1B, "Numeric Range", V2_0;
        INVALID_DATA_TYPE = 0x1C, "Invalid Data Type", V2_0;
        READ_ONLY_ATTRIBUTE = 0x1D, "Read Only Attribute", V2_0;
        MULTI_VALUED_ATTRIBUTE = 0x1E, "Multi Valued Attribute", V2_0;
        UNSUPPORTED_ATTRIBUTE = 0x1F, "Unsupported Attribute", V2_0;
        ATTRIBUTE_INSTANCE_NOT_FOUND = 0x20, "Attribute Instance Not Found", V2_0;
        ATTRIBUTE_NOT_FOUND = 0x21, "Attribute Not Found", V2_0;
        ATTRIBUTE_READ_ONLY = 0x22, "Attribute Read Only", V2_0;
        ATTRIBUTE_SINGLE_VALUED = 0x23, "Attribute Single Valued", V2_0;
        BAD_CRYPTOGRAPHIC_PARAMETERS = 0x24, "Bad Cryptographic Parameters", V2_0;
        BAD_PASSWORD = 0x25, "Bad Password", V2_0;
        CODEC_ERROR = 0x26, "Codec Error", V2_0;
        ILLEGAL_OBJECT_TYPE = 0x28, "Illegal Object Type", V2_0;
        INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK = 0x29, "Incompatible Cryptographic Usage Mask", V2_0;
        INTERNAL_SERVER_ERROR = 0x2A, "Internal Server Error", V2_0;
        INVALID_ASYNCHRONOUS_CORRELATION_VALUE = 0x2B, "Invalid Asynchronous Correlation Value", V2_0;
        INVALID_ATTRIBUTE = 0x2C, "Invalid Attribute", V2_0;
        INVALID_ATTRIBUTE_VALUE = 0x2D, "Invalid Attribute Value", V2_0;
        INVALID_CORRELATION_VALUE = 0x2E, "Invalid Correlation Value", V2_0;
        INVALID_CSR = 0x2F, "Invalid CSR", V2_0;
        INVALID_OBJECT_TYPE = 0x30, "Invalid Object Type", V2_0;
        KEY_WRAP_TYPE_NOT_SUPPORTED = 0x32, "Key Wrap Type Not Supported", V2_0;
        MISSING_INITIALIZATION_VECTOR = 0x34, "Missing Initialization Vector", V2_0;
        NON_UNIQUE_NAME_ATTRIBUTE = 0x35, "Non Unique Name Attribute", V2_0;
        OBJECT_DESTROYED = 0x36, "Object Destroyed", V2_0;
        OBJECT_NOT_FOUND = 0x37, "Object Not Found", V2_0;
        NOT_AUTHORISED = 0x39, "Not Authorised", V2_0;
        SERVER_LIMIT_EXCEEDED = 0x3A, "Server Limit Exceeded", V2_0;
        UNKNOWN_ENUMERATION = 0x3B, "Unknown Enumeration", V2_0;
        UNKNOWN_MESSAGE_EXTENSION = 0x3C, "Unknown Message Extension", V2_0;
        UNKNOWN_TAG = 0x3D, "Unknown Tag", V2_0;
        UNSUPPORTED_CRYPTOGRAPHIC_PARAMETERS = 0x3E, "Unsupported Cryptographic Parameters", V2_0;
        UNSUPPORTED_PROTOCOL_VERSION = 0x3F, "Unsupported Protocol Version", V2_0;
        WRAPPING_OBJECT_ARCHIVED = 0x40, "Wrapping Object Archived", V2_0;
        WRAPPING_OBJECT_DESTROYED = 0x41, "Wrapping Object Destroyed", V2_0;
        WRAPPING_OBJECT_NOT_FOUND = 0x42, "Wrapping Object Not Found", V2_0;
        WRONG_KEY_LIFECYCLE_STATE = 0x43, "Wrong Key Lifecycle State", V2_0;
        PROTECTION_STORAGE_UNAVAILABLE = 0x44, "Protection Storage Unavailable", V2_0;
        PKCS_11_CODEC_ERROR = 0x45, "PKCS#11 Codec Error", V2_0;
        PKCS_11_INVALID_FUNCTION = 0x46, "PKCS#11 Invalid Function", V2_0;
        PKCS_11_INVALID_INTERFACE = 0x47, "PKCS#11 Invalid Interface", V2_0;
        PRIVATE_PROTECTION_STORAGE_UNAVAILABLE = 0x48, "Private Protection Storage Unavailable", V2_0;
        PUBLIC_PROTECTION_STORAGE_UNAVAILABLE = 0x49, "Public Protection Storage Unavailable", V2_0;
        UNKNOWN_OBJECT_GROUP = 0x4A, "Unknown Object Group", V2_1;
        CONSTRAINT_VIOLATION = 0x4B, "Constraint Violation", V2_1;
        DUPLICATE_PROCESS_REQUEST = 0x4C, "Duplicate Process Request", V2_1;
        GENERAL_FAILURE = 0x100, "General Failure", V1_0;
        CIRCULAR_LINK_ERROR = 0x4D, "Circular Link Error", V3_0;
    }
    ResultStatus = RESULT_STATUS, "Result Status" {
        SUCCESS = 0x0, "Success", V1_0;
        OPERATION_FAILED = 0x1, "Operation Failed", V1_0;
        OPERATION_PENDING = 0x2, "Operation Pending", V1_0;
        OPERATION_UNDONE = 0x3, "Operation Undone", V1_0;
    }
    TicketType = TICKET_TYPE, "Ticket Type" {
        LOGIN = 0x1, "Login", V2_0;
    }
    UniqueIdentifierEnumeration = UNIQUE_IDENTIFIER, "Unique Identifier" {
        ID_PLACEHOLDER = 0x1, "ID Placeholder", V2_0;
        CERTIFY = 0x2, "Certify", V2_0;
        CREATE = 0x3, "Create", V2_0;
        CREATE_KEY_PAIR = 0x4, "Create Key Pair", V2_0;
        CREATE_KEY_PAIR_PRIVATE_KEY = 0x5, "Create Key Pair Private Key", V2_0;
        CREATE_KEY_PAIR_PUBLIC_KEY = 0x6, "Create Key Pair Public Key", V2_0;
        CREATE_SPLIT_KEY = 0x7, "Create Split Key", V2_0;
        DERIVE_KEY = 0x8, "Derive Key", V2_0;
        IMPORT = 0x9, "Import", V2_0;
        JOIN_SPLIT_KEY = 0xA, "Join Split Key", V2_0;
        LOCATE = 0xB, "Locate", V2_0;
        REGISTER = 0xC, "Register", V2_0;
        RE_KEY = 0xD, "Re-key", V2_0;
        RE_CERTIFY = 0xE, "Re-certify", V2_0;
        RE_KEY_KEY_PAIR = 0xF, "Re-key Key Pair", V2_0;
        RE_KEY_KEY_PAIR_PRIVATE_KEY = 0x10, "Re-key Key Pair Private Key", V2_0;
        RE_KEY_KEY_PAIR_PUBLIC_KEY = 0x11, "Re-key Key Pair Public Key", V2_0;
        RE_PROVISION = 0x12, "Re-Provision", V3_0;
        CREATE_USER = 0x13, "Create User", V3_0;
        CREATE_GROUP = 0x14, "Create Group", V3_0;
        CREATE_CREDENTIAL = 0x15, "Create Credential", V3_0;
    }
    UnwrapMode = UNWRAP_MODE, "Unwrap Mode" {
        UNSPECIFIED = 0x1, "Unspecified", V1_3;
        PROCESSED = 0x2, "Processed", V1_3;
        NOT_PROCESSED = 0x3, "Not Processed", V1_3;
    }
    ValidationAuthorityType = VALIDATION_AUTHORITY_TYPE, "Validation Authority Type" {
        UNSPECIFIED = 0x1, "Unspecified", V1_3;
        NIST_CMVP = 0x2, "NIST CMVP", V1_3;
        COMMON_CRITERIA = 0x3, "Common Criteria", V1_3;
    }
    ValidationType = VALIDATION_TYPE, "Validation Type" {
        UNSPECIFIED = 0x1, "Unspecified", V1_3;
        HARDWARE = 0x2, "Hardware", V1_3;
        SOFTWARE = 0x3, "Software", V1_3;
        FIRMWARE = 0x4, "Firmware", V1_3;
        HYBRID = 0x5, "Hybrid", V1_3;
    }
    ValidityIndicator = VALIDITY_INDICATOR, "Validity Indicator" {
        VALID = 0x1, "Valid", V1_0;
        INVALID = 0x2, "Invalid", V1_0;
        UNKNOWN = 0x3, "Unknown", V1_0;
    }
}
