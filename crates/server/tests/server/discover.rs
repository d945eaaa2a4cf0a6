//! Discover Versions and Query.

use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

fn discover(client: &Client, wanted: &[Version]) -> ItemResult<Vec<ProtocolVersion>> {
    let request = DiscoverVersionsRequest {
        protocol_versions: wanted.iter().map(|v| ProtocolVersion::from(*v)).collect(),
        extra: Extra::NONE,
    };
    client
        .call::<_, DiscoverVersionsResponse>(&request)
        .map(|response| response.protocol_versions)
}

fn query(client: &Client, functions: &[QueryFunction]) -> QueryResponse {
    let request = QueryRequest {
        query_functions: functions.to_vec(),
        object_groups: None,
        extra: Extra::NONE,
    };
    client.call(&request).unwrap()
}

#[test]
fn discover_versions_tells_all_with_the_newest_first() {
    let host = Host::new();
    for version in ALL.into_iter().skip(1) {
        let spoken = discover(&host.client(version), &[]).unwrap();
        let expected: Vec<_> = ALL
            .iter()
            .rev()
            .map(|v| ProtocolVersion::from(*v))
            .collect();
        assert_eq!(spoken, expected, "asked in {version}");
    }
}

#[test]
fn discover_versions_tells_those_of_the_clients_that_are_spoken() {
    let host = Host::new();
    let client = host.client(Version::V1_2);
    let wanted = [
        Version::new(3, 0),
        Version::V1_1,
        Version::V2_0,
        Version::new(1, 9),
    ];
    assert_eq!(
        discover(&client, &wanted).unwrap(),
        [Version::V2_0.into(), Version::V1_1.into()]
    );
    assert!(discover(&client, &[Version::new(9, 9)]).unwrap().is_empty());
}

#[test]
fn discover_versions_is_no_operation_of_1_0() {
    let host = Host::new();
    assert_eq!(
        reason(discover(&host.client(Version::V1_0), &[])),
        ResultReason::OPERATION_NOT_SUPPORTED
    );
}

#[test]
fn query_tells_the_operations_that_the_version_has() {
    let host = Host::new();
    for version in ALL {
        let operations =
            query(&host.client(version), &[QueryFunction::QUERY_OPERATIONS]).operations;
        for always in [
            Operation::CREATE,
            Operation::REGISTER,
            Operation::LOCATE,
            Operation::GET,
            Operation::DESTROY,
            Operation::QUERY,
        ] {
            assert!(operations.contains(&always), "{always} in {version}");
        }
        assert_eq!(
            operations.contains(&Operation::IMPORT),
            version >= Version::V1_4,
            "Import in {version}"
        );
        assert_eq!(
            operations.contains(&Operation::DISCOVER_VERSIONS),
            version >= Version::V1_1,
            "Discover Versions in {version}"
        );
    }
}

#[test]
fn query_tells_the_object_types_that_the_version_has() {
    let host = Host::new();
    for version in ALL {
        let response = query(&host.client(version), &[QueryFunction::QUERY_OBJECTS]);
        assert!(
            response.operations.is_empty() && response.vendor_identification.is_none(),
            "only what was asked for"
        );
        assert!(response.object_types.contains(&ObjectType::SYMMETRIC_KEY));
        assert_eq!(
            response.object_types.contains(&ObjectType::PGP_KEY),
            version >= Version::V1_2
        );
        assert_eq!(
            response
                .object_types
                .contains(&ObjectType::CERTIFICATE_REQUEST),
            version >= Version::V2_0
        );
    }
}

#[test]
fn query_tells_vendor_extensions_and_capabilities() {
    let host = Host::new();
    let functions = [
        QueryFunction::QUERY_SERVER_INFORMATION,
        QueryFunction::QUERY_EXTENSION_MAP,
        QueryFunction::QUERY_CAPABILITIES,
        QueryFunction::QUERY_APPLICATION_NAMESPACES,
    ];
    for version in ALL {
        let response = query(&host.client(version), &functions);
        assert_eq!(response.vendor_identification.unwrap(), "keyferry");
        assert_eq!(
            response.extension_information.is_empty(),
            version < Version::V1_1
        );
        assert_eq!(
            response.capability_information.is_empty(),
            version < Version::V1_3
        );
        if let Some(information) = response.extension_information.first() {
            assert!(information.tag.is_some() && information.item_type.is_some());
        }
    }
    let list = query(
        &host.client(Version::V1_1),
        &[QueryFunction::QUERY_EXTENSION_LIST],
    );
    assert!(
        list.extension_information
            .iter()
            .all(|information| information.tag.is_none())
    );
}

#[test]
fn query_passes_over_functions_that_are_not_known() {
    let host = Host::new();
    let response = query(
        &host.client(Version::V1_0),
        &[QueryFunction(0x77), QueryFunction::QUERY_OBJECTS],
    );
    assert!(!response.object_types.is_empty());
}
