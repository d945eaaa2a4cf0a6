//! Discover Versions and Query: what the server speaks and can do.

use super::Operations;
use keyferry_kmip::spec::{
    DestroyAction, Domain, ObjectType, Operation, ProfileName, ProtectionStorageMask,
    QueryFunction, RNGMode, ShreddingAlgorithm, UnwrapMode,
};
use keyferry_kmip::{
    CapabilityInformation, DefaultsInformation, DiscoverVersionsRequest, DiscoverVersionsResponse,
    ExtensionInformation, ExtensionType, Failure, ProfileInformation, ProtectionStorageMasks,
    ProtocolVersion, QueryRequest, QueryResponse, RequestItem, VERSIONS, extension,
};
use keyferry_s2s::{Answered, Ask};
use keyferry_ttlv::{Extra, Type, Version};

/// The object types that the server keeps.
const OBJECT_TYPES: &[ObjectType] = &[
    ObjectType::CERTIFICATE,
    ObjectType::SYMMETRIC_KEY,
    ObjectType::PUBLIC_KEY,
    ObjectType::PRIVATE_KEY,
    ObjectType::SPLIT_KEY,
    ObjectType::SECRET_DATA,
    ObjectType::TEMPLATE,
    ObjectType::OPAQUE_OBJECT,
    ObjectType::PGP_KEY,
    ObjectType::CERTIFICATE_REQUEST,
];

/// Discover Versions (KMIP 2.1 §6.1.16): the versions that the server speaks, or those of them that the client names, in the order of
/// the server's preference.
pub(super) fn discover_versions(ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: DiscoverVersionsRequest = item.payload(ask.cx)?;
    let wanted = &request.protocol_versions;
    let spoken = VERSIONS
        .iter()
        .map(|version| ProtocolVersion::from(*version));
    let protocol_versions = spoken
        .filter(|version| wanted.is_empty() || wanted.contains(version))
        .collect();
    Answered::answer(
        &DiscoverVersionsResponse {
            protocol_versions,
            extra: Extra::NONE,
        },
        ask.cx,
    )
}

/// The profile that the server fulfils: the basic server of the version.
fn profiles(version: Version) -> Vec<ProfileInformation> {
    let profile_name = match version {
        Version::V1_3 => ProfileName::BASELINE_SERVER_BASIC_KMIP_V1_3,
        Version::V1_4 => ProfileName::BASELINE_SERVER_BASIC_KMIP_V1_4,
        _ => ProfileName::BASELINE_SERVER,
    };
    vec![ProfileInformation {
        profile_name,
        profile_version: None,
        server_uri: None,
        server_port: None,
        extra: Extra::NONE,
    }]
}

/// Query (KMIP 2.1 §6.1.40).
pub(super) fn query(
    ops: &Operations,
    ask: &Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: QueryRequest = item.payload(ask.cx)?;
    let asks = |function| request.query_functions.contains(&function);
    let version = ask.cx.version;
    let mut response = QueryResponse {
        operations: Vec::new(),
        object_types: Vec::new(),
        vendor_identification: None,
        server_information: None,
        application_namespaces: Vec::new(),
        extension_information: Vec::new(),
        attestation_types: Vec::new(),
        rng_parameters: Vec::new(),
        profile_information: Vec::new(),
        validation_information: Vec::new(),
        capability_information: Vec::new(),
        client_registration_methods: Vec::new(),
        defaults_information: None,
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    if asks(QueryFunction::QUERY_OPERATIONS) {
        let operations = ops.listed();
        response.operations = operations
            .filter(|operation| is_in(Operation::DOMAIN, operation.0, version))
            .collect();
    }
    if asks(QueryFunction::QUERY_OBJECTS) {
        let types = OBJECT_TYPES.iter().copied();
        response.object_types = types
            .filter(|object_type| is_in(ObjectType::DOMAIN, object_type.0, version))
            .collect();
    }
    if asks(QueryFunction::QUERY_SERVER_INFORMATION) {
        response.vendor_identification = Some(extension::VENDOR.into());
        response.server_information = Some(keyferry_s2s::server_information(ask)?);
    }
    let map = asks(QueryFunction::QUERY_EXTENSION_MAP);
    if (map || asks(QueryFunction::QUERY_EXTENSION_LIST)) && version >= Version::V1_1 {
        response.extension_information.push(copy_extension(map));
    }
    if version >= Version::V1_3 {
        describe_since_1_3(&mut response, &asks, version);
    }
    if version >= Version::V2_0 {
        describe_since_2_0(&mut response, &asks);
    }
    Answered::answer(&response, ask.cx)
}

/// Whether a value of an enumeration exists in a version.
fn is_in(domain: Domain, value: u32, version: Version) -> bool {
    domain
        .values
        .iter()
        .any(|row| row.value == value && row.versions.contain(version))
}

/// The extension by which keyferry servers send copies; `map` says whether with its tag and type.
fn copy_extension(map: bool) -> ExtensionInformation {
    ExtensionInformation {
        tag: map.then(|| i32::try_from(extension::COPY.number()).unwrap_or_default()),
        item_type: map.then_some(ExtensionType(Type::Structure as u32)),
        ..ExtensionInformation::named("keyferry copy")
    }
}

fn describe_since_1_3(
    response: &mut QueryResponse,
    asks: &dyn Fn(QueryFunction) -> bool,
    version: Version,
) {
    if asks(QueryFunction::QUERY_CAPABILITIES) {
        let since_1_4 = version >= Version::V1_4;
        response.capability_information.push(CapabilityInformation {
            streaming: Some(false),
            asynchronous: Some(false),
            attestation: Some(false),
            batch_undo: since_1_4.then_some(true),
            batch_continue: since_1_4.then_some(true),
            unwrap_mode: Some(UnwrapMode::PROCESSED),
            // Only the store knows whether it overwrites material or forgets it.
            destroy_action: Some(DestroyAction::UNSPECIFIED),
            shredding_algorithm: Some(ShreddingAlgorithm::UNSPECIFIED),
            rng_mode: Some(RNGMode::UNSPECIFIED),
            quantum_safe: (version >= Version::V2_0).then_some(false),
            extra: Extra::NONE,
        });
    }
    if asks(QueryFunction::QUERY_RNGS) {
        response.rng_parameters.push(super::create::generator());
    }
    if asks(QueryFunction::QUERY_PROFILES) {
        response.profile_information = profiles(version);
    }
}

fn describe_since_2_0(response: &mut QueryResponse, asks: &dyn Fn(QueryFunction) -> bool) {
    if asks(QueryFunction::QUERY_STORAGE_PROTECTION_MASKS) {
        response.protection_storage_masks = Some(ProtectionStorageMasks {
            protection_storage_masks: vec![ProtectionStorageMask::SOFTWARE],
            extra: Extra::NONE,
        });
    }
    if asks(QueryFunction::QUERY_DEFAULTS_INFORMATION) {
        response.defaults_information = Some(DefaultsInformation::default());
    }
}
