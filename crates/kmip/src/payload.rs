//! The payloads of the operations, requests and responses, in one set of types for all versions.

use crate::spec::*;
use keyferry_ttlv::{Context, Decode, Downgrade, Encode, Loss, Raw, Result, Tag, Version, Writer};

pub(crate) mod change;
mod common;
pub(crate) mod cryptographic;
pub(crate) mod data;
pub(crate) mod exchange;
pub(crate) mod find;
pub(crate) mod life;
pub(crate) mod make;
pub(crate) mod server;

pub use change::*;
pub use cryptographic::*;
pub use data::*;
pub use exchange::*;
pub use find::*;
pub use life::*;
pub use make::*;
pub use server::*;

/// A payload of an operation.
pub trait Payload: Encode + Decode {
    /// The operation that it belongs to.
    const OPERATION: Operation;
}

/// Declares the payloads of operations: each is written and read by the derive, and knows its operation.
macro_rules! payloads {
    ($(
        $(#[$meta:meta])*
        $name:ident: $operation:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }
    )*) => {$(
        #[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
        #[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
        $(#[$meta])*
        #[allow(missing_docs)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
            #[ttlv(extra)]
            pub extra: Extra,
        }

        impl $crate::payload::Payload for $name {
            const OPERATION: Operation = Operation::$operation;
        }
    )*};
}
use payloads;

/// Declares a choice of payloads, by operation.
macro_rules! by_operation {
    ($(#[$meta:meta])* $name:ident { $($variant:ident($ty:ident),)* }) => {
        #[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum $name {
            $($variant(Box<$ty>),)*
            /// The payload of an operation that is not known here, as it came.
            Other(Operation, Raw),
        }

        impl $name {
            /// Reads the payload of an operation.
            ///
            /// # Errors
            /// What is wrong with it, with places in the whole message.
            pub fn read(operation: Operation, raw: &Raw, cx: Context) -> Result<Self> {
                Ok(match operation {
                    $($ty::OPERATION => $name::$variant(Box::new(raw.read(cx)?)),)*
                    other => $name::Other(other, raw.clone()),
                })
            }

            /// The operation that it belongs to.
            pub fn operation(&self) -> Operation {
                match self {
                    $($name::$variant(_) => $ty::OPERATION,)*
                    $name::Other(operation, _) => *operation,
                }
            }
        }

        impl Encode for $name {
            fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
                match self {
                    $($name::$variant(payload) => payload.encode(tag, w),)*
                    $name::Other(_, raw) => raw.encode(tag, w),
                }
            }
        }

        /// A version has the payloads of its operations alone.
        impl Downgrade for $name {
            fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
                if !Operation::DOMAIN.has(self.operation().0, version) {
                    return false;
                }
                match self {
                    $($name::$variant(payload) => payload.downgrade(version, loss),)*
                    $name::Other(..) => true,
                }
            }
        }

        $(impl From<$ty> for $name {
            fn from(payload: $ty) -> Self {
                $name::$variant(Box::new(payload))
            }
        })*
    };
}

by_operation! {
    /// The payload of a request.
    RequestPayload {
        Create(CreateRequest),
        CreateKeyPair(CreateKeyPairRequest),
        Register(RegisterRequest),
        ReKey(ReKeyRequest),
        ReKeyKeyPair(ReKeyKeyPairRequest),
        DeriveKey(DeriveKeyRequest),
        Certify(CertifyRequest),
        ReCertify(ReCertifyRequest),
        CreateSplitKey(CreateSplitKeyRequest),
        JoinSplitKey(JoinSplitKeyRequest),
        ReProvision(ReProvisionRequest),
        Locate(LocateRequest),
        Check(CheckRequest),
        Get(GetRequest),
        GetAttributes(GetAttributesRequest),
        GetAttributeList(GetAttributeListRequest),
        AddAttribute(AddAttributeRequest),
        ModifyAttribute(ModifyAttributeRequest),
        DeleteAttribute(DeleteAttributeRequest),
        SetAttribute(SetAttributeRequest),
        AdjustAttribute(AdjustAttributeRequest),
        Activate(ActivateRequest),
        Revoke(RevokeRequest),
        Destroy(DestroyRequest),
        Archive(ArchiveRequest),
        Recover(RecoverRequest),
        ObtainLease(ObtainLeaseRequest),
        GetUsageAllocation(GetUsageAllocationRequest),
        Validate(ValidateRequest),
        Import(ImportRequest),
        Export(ExportRequest),
        Put(PutRequest),
        Notify(NotifyRequest),
        Encrypt(EncryptRequest),
        Decrypt(DecryptRequest),
        Sign(SignRequest),
        SignatureVerify(SignatureVerifyRequest),
        Mac(MacRequest),
        MacVerify(MacVerifyRequest),
        Hash(HashRequest),
        RngRetrieve(RngRetrieveRequest),
        RngSeed(RngSeedRequest),
        DiscoverVersions(DiscoverVersionsRequest),
        Query(QueryRequest),
        Cancel(CancelRequest),
        Poll(PollRequest),
        Process(ProcessRequest),
        QueryAsynchronousRequests(QueryAsynchronousRequestsRequest),
        Login(LoginRequest),
        Logout(LogoutRequest),
        DelegatedLogin(DelegatedLoginRequest),
        SetEndpointRole(SetEndpointRoleRequest),
        SetConstraints(SetConstraintsRequest),
        GetConstraints(GetConstraintsRequest),
        SetDefaults(SetDefaultsRequest),
        Ping(PingRequest),
        Log(LogRequest),
        Interop(InteropRequest),
        Pkcs11(Pkcs11Request),
    }
}

by_operation! {
    /// The payload of a response. A finished Poll is answered with the operation that was polled.
    ResponsePayload {
        Create(CreateResponse),
        CreateKeyPair(CreateKeyPairResponse),
        Register(RegisterResponse),
        ReKey(ReKeyResponse),
        ReKeyKeyPair(ReKeyKeyPairResponse),
        DeriveKey(DeriveKeyResponse),
        Certify(CertifyResponse),
        ReCertify(ReCertifyResponse),
        CreateSplitKey(CreateSplitKeyResponse),
        JoinSplitKey(JoinSplitKeyResponse),
        ReProvision(ReProvisionResponse),
        Locate(LocateResponse),
        Check(CheckResponse),
        Get(GetResponse),
        GetAttributes(GetAttributesResponse),
        GetAttributeList(GetAttributeListResponse),
        AddAttribute(AddAttributeResponse),
        ModifyAttribute(ModifyAttributeResponse),
        DeleteAttribute(DeleteAttributeResponse),
        SetAttribute(SetAttributeResponse),
        AdjustAttribute(AdjustAttributeResponse),
        Activate(ActivateResponse),
        Revoke(RevokeResponse),
        Destroy(DestroyResponse),
        Archive(ArchiveResponse),
        Recover(RecoverResponse),
        ObtainLease(ObtainLeaseResponse),
        GetUsageAllocation(GetUsageAllocationResponse),
        Validate(ValidateResponse),
        Import(ImportResponse),
        Export(ExportResponse),
        Put(PutResponse),
        Notify(NotifyResponse),
        Encrypt(EncryptResponse),
        Decrypt(DecryptResponse),
        Sign(SignResponse),
        SignatureVerify(SignatureVerifyResponse),
        Mac(MacResponse),
        MacVerify(MacVerifyResponse),
        Hash(HashResponse),
        RngRetrieve(RngRetrieveResponse),
        RngSeed(RngSeedResponse),
        DiscoverVersions(DiscoverVersionsResponse),
        Query(QueryResponse),
        Cancel(CancelResponse),
        Process(ProcessResponse),
        QueryAsynchronousRequests(QueryAsynchronousRequestsResponse),
        Login(LoginResponse),
        Logout(LogoutResponse),
        DelegatedLogin(DelegatedLoginResponse),
        SetEndpointRole(SetEndpointRoleResponse),
        SetConstraints(SetConstraintsResponse),
        GetConstraints(GetConstraintsResponse),
        SetDefaults(SetDefaultsResponse),
        Ping(PingResponse),
        Log(LogResponse),
        Interop(InteropResponse),
        Pkcs11(Pkcs11Response),
    }
}
