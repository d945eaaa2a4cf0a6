//! The spec tables against the standard's, row by row.

use crate::vectors::shared;
use keyferry_kmip::spec::{self, ChangeRule, Domain, ObjectKinds, ObjectType, SetBy, Versions};
use keyferry_ttlv::{Type, Version};
use std::collections::BTreeMap;

pub fn rows(file: &str) -> Option<Vec<BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(shared("tables")?.join(file)).unwrap();
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| {
        heads
            .iter()
            .map(ToString::to_string)
            .zip(line.split('\t').map(ToString::to_string))
            .collect()
    };
    Some(lines.map(row).collect())
}

fn version(text: &str) -> Version {
    let (major, minor) = text.split_once('.').unwrap();
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Version::new(major.parse().unwrap(), digits.parse().unwrap())
}

/// Whether the row's versions are those of the table; `None` for a row that the table calls reserved.
fn agree(row: &BTreeMap<String, String>, versions: Option<Versions>) -> Option<bool> {
    let (first, last) = (row["first"].as_str(), row["last"].as_str());
    if last == "reserved" {
        return None;
    }
    let versions = versions?;
    let until = (last != "current" && !last.starts_with("3.0")).then(|| version(last));
    Some(versions.since == version(first) && versions.until == until)
}

#[test]
fn tags() {
    let Some(rows) = rows("tags.tsv") else { return };
    let mut known = 0;
    for row in &rows {
        let number = u32::from_str_radix(&row["hex"], 16).unwrap();
        let ours = spec::tag_row(keyferry_ttlv::Tag::new(number));
        match agree(row, ours.map(|ours| ours.versions)) {
            Some(same) => {
                let ours = ours.unwrap();
                assert!(same && ours.name == row["name"], "{row:?}: {ours:?}");
                known += 1;
                for ty in ours.types {
                    assert!(
                        row["type"].is_empty()
                            || row["type"].starts_with("varies")
                            || row["type"].contains(ty.name()),
                        "{row:?}: {ours:?}"
                    );
                }
                let named = [
                    Type::Structure,
                    Type::Integer,
                    Type::Enumeration,
                    Type::Boolean,
                    Type::TextString,
                    Type::ByteString,
                    Type::DateTime,
                ];
                for ty in named {
                    let meant = row["type"]
                        .split([';', ','])
                        .flat_map(|part| part.split(" or "))
                        .map(|part| part.split(" (").next().unwrap().trim());
                    if meant.clone().any(|part| part == ty.name())
                        && !row["type"].starts_with("varies")
                    {
                        assert!(ours.types.contains(&ty), "{row:?}: {ours:?}");
                    }
                }
            }
            None if row["last"] == "reserved" => {}
            None => panic!("not known: {row:?}"),
        }
    }
    assert_eq!(known, spec::tag::ROWS.len(), "none beside the standard's");
    assert!(spec::tag::ROWS.is_sorted_by_key(|row| row.tag));
}

fn values<'d>(file: &str, head: &str, domains: impl Iterator<Item = &'d Domain>) {
    let Some(rows) = rows(file) else { return };
    let domains: BTreeMap<&str, &Domain> = domains.map(|domain| (domain.name, domain)).collect();
    let mut known = 0;
    for row in &rows {
        let number = u32::from_str_radix(&row["hex"], 16).unwrap();
        let domain = domains.get(row[head].as_str());
        let ours = domain.and_then(|domain| {
            domain
                .values
                .iter()
                .find(|value| value.value == number && value.name == row["name"])
        });
        match agree(row, ours.map(|ours| ours.versions)) {
            Some(same) => {
                assert!(same, "{row:?}: {ours:?}");
                known += 1;
            }
            None if row["last"] == "reserved" => {}
            None => panic!("not known: {row:?}"),
        }
    }
    let all: usize = domains.values().map(|domain| domain.values.len()).sum();
    assert_eq!(known, all, "none beside the standard's");
}

#[test]
fn enumerations() {
    values("enums.tsv", "enumeration", spec::enumeration_domains());
}

#[test]
fn masks() {
    values("masks.tsv", "mask", spec::mask_domains());
}

#[test]
fn operations() {
    let Some(rows) = rows("operations.tsv") else {
        return;
    };
    // Query and Discover Versions by the server came later than by the client, under the same numbers.
    let both = |row: &BTreeMap<String, String>| {
        rows.iter()
            .filter(|other| other["hex"] == row["hex"])
            .count()
            > 1
    };
    for row in rows
        .iter()
        .filter(|row| row["direction"] == "client->server" || !both(row))
    {
        let number = u32::from_str_radix(&row["hex"], 16).unwrap();
        let ours = spec::Operation::DOMAIN
            .values
            .iter()
            .find(|value| value.value == number);
        match ours {
            Some(ours) => {
                assert!(
                    ours.name == row["operation"] && agree(row, Some(ours.versions)) != Some(false),
                    "{row:?}: {ours:?}"
                )
            }
            None => assert_eq!(row["last"], "reserved", "{row:?}"),
        }
    }
}

/// The objects that an attribute may be on, as the tables put it; they say it in several ways.
fn objects(on: ObjectKinds) -> &'static [&'static str] {
    match on {
        ObjectKinds::All => &["All Objects"],
        ObjectKinds::Cryptographic => {
            &["All Cryptographic Objects", "Managed Cryptographic Objects"]
        }
        ObjectKinds::CryptographicOpaque => &[
            "All Cryptographic Objects, Opaque Object",
            "All Cryptographic Objects, Opaque Objects",
        ],
        ObjectKinds::CryptographicTemplates => &["All Cryptographic Objects, Templates"],
        ObjectKinds::KeysTemplates => &["Keys, Templates"],
        ObjectKinds::KeysCertificatesTemplates => &["Keys, Certificates, Templates"],
        ObjectKinds::SymmetricTemplates => {
            &["Symmetric Keys, Split Keys of symmetric keys, Templates"]
        }
        ObjectKinds::Confidential => &["Symmetric Key, Private Key, Split Key, Secret Data"],
        ObjectKinds::Asymmetric => &["Public Keys, Private Keys"],
        ObjectKinds::AsymmetricTemplates => &["Asymmetric Keys, Templates"],
        ObjectKinds::Certificates => &["Certificates", "X.509 Certificates"],
        ObjectKinds::CertificatesPgpKeys => &["Certificates, PGP keys"],
        ObjectKinds::Opaque => &["Opaque Objects"],
    }
}

#[test]
fn attributes_are_on_the_objects_that_the_tables_name() {
    let Some(rows) = rows("attributes.tsv") else {
        return;
    };
    for row in &rows {
        let Some(ours) = u32::from_str_radix(&row["tag"], 16)
            .ok()
            .map(keyferry_ttlv::Tag::new)
            .and_then(spec::attribute_row)
        else {
            continue;
        };
        let on = if row["rules_from"].starts_with('1') {
            ours.on.0
        } else {
            ours.on.1
        };
        assert!(
            objects(on).contains(&row["applies_to_object_types"].as_str()),
            "{row:?}: {ours:?}"
        );
    }
    let limits = spec::attribute_row(spec::tag::USAGE_LIMITS).unwrap();
    assert!(
        limits.may_be_on(ObjectType::SYMMETRIC_KEY, Version::V1_0)
            && limits.may_be_on(ObjectType::TEMPLATE, Version::V1_4)
    );
    assert!(
        !limits.may_be_on(ObjectType::CERTIFICATE, Version::V1_4)
            && limits.may_be_on(ObjectType::CERTIFICATE, Version::V2_1)
    );
    let safe = spec::attribute_row(spec::tag::QUANTUM_SAFE).unwrap();
    assert!(!safe.may_be_on(ObjectType::SYMMETRIC_KEY, Version::V1_4));
}

#[test]
fn attributes_and_their_rules() {
    let Some(rows) = rows("attributes.tsv") else {
        return;
    };
    let mut latest: BTreeMap<u32, &BTreeMap<String, String>> = BTreeMap::new();
    for row in &rows {
        let Ok(tag) = u32::from_str_radix(&row["tag"], 16) else {
            continue;
        };
        let newer = latest
            .get(&tag)
            .is_none_or(|held| held["rules_from"] < row["rules_from"]);
        if newer {
            latest.insert(tag, row);
        }
    }
    let mut known = 0;
    for (tag, row) in latest {
        // Those of vendors and clients have no rules of their own.
        if matches!(
            row["attribute"].as_str(),
            "Custom Attribute" | "Vendor Attribute" | "Attribute"
        ) {
            continue;
        }
        let ours = spec::attribute_row(keyferry_ttlv::Tag::new(tag))
            .unwrap_or_else(|| panic!("not known: {row:?}"));
        known += 1;
        assert_eq!(ours.name, row["attribute"]);
        assert_eq!(
            agree(row, Some(ours.versions)),
            Some(true),
            "{row:?}: {ours:?}"
        );
        let may = |text: &str| match text {
            text if text.starts_with("No") || text.is_empty() => ChangeRule::Never,
            text if text.contains("Pre-Active or Active state and") => ChangeRule::UntilReached,
            text if text.contains("Pre-Active or Active state") => ChangeRule::PreActiveOrActive,
            text if text.contains("Pre-Active state") => ChangeRule::PreActive,
            text if text.contains("Get Usage Allocation") => ChangeRule::UntilAllocated,
            _ => ChangeRule::Always,
        };
        assert_eq!(
            ours.client_modifies,
            may(&row["modifiable_by_client"]),
            "{row:?}"
        );
        assert_eq!(
            ours.client_deletes,
            may(&row["deletable_by_client"]),
            "{row:?}"
        );
        assert_eq!(
            ours.multiple,
            row["multiple_instances_permitted"].starts_with("Yes"),
            "{row:?}"
        );
        let by = &row["initially_set_by"];
        let expected = match (by.contains("Client"), by.contains("Server")) {
            (true, true) => SetBy::Both,
            (true, false) => SetBy::Client,
            _ => SetBy::Server,
        };
        assert_eq!(ours.set_by, expected, "{row:?}");
    }
    assert_eq!(known, spec::attribute_rows().len());
}

#[test]
fn every_name_leads_to_its_tag_and_back() {
    for row in spec::tag::ROWS {
        assert_eq!(spec::tag_named(row.name), Some(row.tag), "{}", row.name);
    }
    let mut numbers: Vec<_> = spec::tag::ROWS.iter().map(|row| row.tag).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), spec::tag::ROWS.len());
}
