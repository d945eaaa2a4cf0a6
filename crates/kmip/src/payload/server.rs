//! Operations on the server itself: Discover Versions, Query, log-in, asynchronous requests, constraints, defaults, PKCS#11.

use super::data::*;
use super::payloads;
use crate::attribute::structure::{RngParameters, UsageLimits};
use crate::protocol_version::ProtocolVersion;
use crate::secret::Secret;
use crate::spec::*;
use keyferry_ttlv::{Decode, Downgrade, Encode, Enumeration, Extra, Text};

payloads! {
    /// KMIP 2.1 §6.1.16, since 1.1.
    #[derive(Default)]
    DiscoverVersionsRequest: DISCOVER_VERSIONS {
        protocol_versions: Vec<ProtocolVersion>,
    }
    /// KMIP 2.1 §6.1.16, since 1.1.
    #[derive(Default)]
    DiscoverVersionsResponse: DISCOVER_VERSIONS {
        protocol_versions: Vec<ProtocolVersion>,
    }
    /// KMIP 2.1 §6.1.40, since 1.0.
    #[derive(Default)]
    QueryRequest: QUERY {
        #[ttlv(at_least_one)]
        query_functions: Vec<QueryFunction>,
        #[ttlv(since = "2.1")]
        object_groups: Option<ObjectGroups>,
    }
    /// KMIP 2.1 §6.1.40, since 1.0.
    #[derive(Default)]
    QueryResponse: QUERY {
        operations: Vec<Operation>,
        object_types: Vec<ObjectType>,
        #[ttlv(tag = tag::VENDOR_IDENTIFICATION)]
        vendor_identification: Option<Text>,
        server_information: Option<ServerInformation>,
        #[ttlv(tag = tag::APPLICATION_NAMESPACE)]
        application_namespaces: Vec<Text>,
        #[ttlv(since = "1.1")]
        extension_information: Vec<ExtensionInformation>,
        #[ttlv(since = "1.2")]
        attestation_types: Vec<AttestationType>,
        #[ttlv(tag = tag::RNG_PARAMETERS, since = "1.3")]
        rng_parameters: Vec<RngParameters>,
        #[ttlv(since = "1.3")]
        profile_information: Vec<ProfileInformation>,
        #[ttlv(since = "1.3")]
        validation_information: Vec<ValidationInformation>,
        #[ttlv(since = "1.3")]
        capability_information: Vec<CapabilityInformation>,
        #[ttlv(since = "1.3")]
        client_registration_methods: Vec<ClientRegistrationMethod>,
        #[ttlv(since = "2.0")]
        defaults_information: Option<DefaultsInformation>,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.5, since 1.0.
    #[derive(Default)]
    CancelRequest: CANCEL {
        #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
        asynchronous_correlation_value: Vec<u8>,
    }
    /// KMIP 2.1 §6.1.5, since 1.0.
    CancelResponse: CANCEL {
        #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
        asynchronous_correlation_value: Vec<u8>,
        cancellation_result: CancellationResult,
    }
    /// KMIP 2.1 §6.1.38, since 1.0.
    #[derive(Default)]
    PollRequest: POLL {
        #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
        asynchronous_correlation_value: Vec<u8>,
    }
    /// KMIP 2.1 §6.1.39, since 2.1.
    #[derive(Default)]
    ProcessRequest: PROCESS {
        #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
        asynchronous_correlation_value: Vec<u8>,
    }
    /// KMIP 2.1 §6.1.39, since 2.1.
    #[derive(Default)]
    ProcessResponse: PROCESS {
    }
    /// KMIP 2.1 §6.1.41, since 2.1.
    #[derive(Default)]
    QueryAsynchronousRequestsRequest: QUERY_ASYNCHRONOUS_REQUESTS {
        asynchronous_correlation_values: Option<AsynchronousCorrelationValues>,
        operations: Option<Operations>,
    }
    /// KMIP 2.1 §6.1.41, since 2.1.
    #[derive(Default)]
    QueryAsynchronousRequestsResponse: QUERY_ASYNCHRONOUS_REQUESTS {
        asynchronous_requests: Vec<AsynchronousRequest>,
    }
    /// KMIP 2.1 §6.1.30, since 2.0.
    #[derive(Default)]
    LoginRequest: LOGIN {
        lease_time: Option<TicketLifetime>,
        #[ttlv(tag = tag::REQUEST_COUNT)]
        request_count: Option<i32>,
        usage_limits: Option<UsageLimits>,
    }
    /// KMIP 2.1 §6.1.30, since 2.0.
    LoginResponse: LOGIN {
        ticket: LoginTicket,
    }
    /// KMIP 2.1 §6.1.31, since 2.0.
    #[derive(Default)]
    LogoutRequest: LOGOUT {
        #[ttlv(required_since = "2.0")]
        ticket: Option<LoginTicket>,
    }
    /// KMIP 2.1 §6.1.31, since 2.0.
    #[derive(Default)]
    LogoutResponse: LOGOUT {
    }
    /// KMIP 2.1 §6.1.12, since 2.0.
    DelegatedLoginRequest: DELEGATED_LOGIN {
        lease_time: Option<TicketLifetime>,
        #[ttlv(tag = tag::REQUEST_COUNT)]
        request_count: Option<i32>,
        usage_limits: Option<UsageLimits>,
        rights: Rights,
    }
    /// KMIP 2.1 §6.1.12, since 2.0.
    DelegatedLoginResponse: DELEGATED_LOGIN {
        ticket: LoginTicket,
    }
    /// KMIP 2.1 §6.1.54, since 2.0.
    SetEndpointRoleRequest: SET_ENDPOINT_ROLE {
        endpoint_role: EndpointRole,
    }
    /// KMIP 2.1 §6.1.54, since 2.0.
    SetEndpointRoleResponse: SET_ENDPOINT_ROLE {
        endpoint_role: EndpointRole,
    }
    /// KMIP 2.1 §6.1.52, since 2.1. The standard's table demands the constraints; its case TC-MD-24-21 lifts them by a payload without.
    #[derive(Default)]
    SetConstraintsRequest: SET_CONSTRAINTS {
        constraints: Option<Constraints>,
    }
    /// KMIP 2.1 §6.1.52, since 2.1.
    #[derive(Default)]
    SetConstraintsResponse: SET_CONSTRAINTS {
    }
    /// KMIP 2.1 §6.1.22, since 2.1.
    #[derive(Default)]
    GetConstraintsRequest: GET_CONSTRAINTS {
    }
    /// KMIP 2.1 §6.1.22, since 2.1.
    GetConstraintsResponse: GET_CONSTRAINTS {
        constraints: Constraints,
    }
    /// KMIP 2.1 §6.1.53, since 2.1.
    #[derive(Default)]
    SetDefaultsRequest: SET_DEFAULTS {
        defaults_information: Option<DefaultsInformation>,
    }
    /// KMIP 2.1 §6.1.53, since 2.1.
    #[derive(Default)]
    SetDefaultsResponse: SET_DEFAULTS {
    }
    /// KMIP 2.1 §6.1.36, since 2.1.
    #[derive(Default)]
    PingRequest: PING {
    }
    /// KMIP 2.1 §6.1.36, since 2.1.
    #[derive(Default)]
    PingResponse: PING {
    }
    /// KMIP 2.1 §6.1.29, since 2.0.
    LogRequest: LOG {
        #[ttlv(tag = tag::LOG_MESSAGE)]
        log_message: Text,
    }
    /// KMIP 2.1 §6.1.29, since 2.0.
    #[derive(Default)]
    LogResponse: LOG {
    }
    /// KMIP 2.1 §6.1.26, since 2.0.
    InteropRequest: INTEROP {
        interop_function: InteropFunction,
        #[ttlv(tag = tag::INTEROP_IDENTIFIER)]
        interop_identifier: Option<Text>,
    }
    /// KMIP 2.1 §6.1.26, since 2.0.
    #[derive(Default)]
    InteropResponse: INTEROP {
    }
    /// KMIP 2.1 §6.1.37, since 2.0.
    Pkcs11Request: PKCS_11 {
        #[ttlv(tag = tag::PKCS_11_INTERFACE)]
        interface: Option<Text>,
        #[ttlv(tag = tag::PKCS_11_FUNCTION)]
        function: Enumeration,
        #[ttlv(tag = tag::CORRELATION_VALUE)]
        correlation_value: Option<Vec<u8>>,
        /// The function's parameters as PKCS#11 profiles encode them; may hold PINs and keys.
        #[ttlv(tag = tag::PKCS_11_INPUT_PARAMETERS)]
        input_parameters: Option<Secret>,
    }
    /// KMIP 2.1 §6.1.37, since 2.0.
    Pkcs11Response: PKCS_11 {
        #[ttlv(tag = tag::PKCS_11_INTERFACE)]
        interface: Option<Text>,
        #[ttlv(tag = tag::PKCS_11_FUNCTION)]
        function: Enumeration,
        #[ttlv(tag = tag::CORRELATION_VALUE)]
        correlation_value: Option<Vec<u8>>,
        /// What the function gave back; may hold keys.
        #[ttlv(tag = tag::PKCS_11_OUTPUT_PARAMETERS)]
        output_parameters: Option<Secret>,
        #[ttlv(tag = tag::PKCS_11_RETURN_CODE)]
        return_code: Enumeration,
    }
}
