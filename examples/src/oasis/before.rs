//! What a case presupposes: some go on where another one left off, and what they find was registered there.

use super::compare::is_identifier;
use super::tree::Node;
use keyferry_kmip::spec::{self, ObjectType, Operation, SetBy, tag};
use keyferry_ttlv::{Tag, Type, Version};

/// The requests that register what a case locates without having made it, as its own answers show each object.
pub fn registrations(exchanges: &[(Node, Node)], version: Version) -> Vec<Node> {
    let mut located: Vec<Vec<u8>> = Vec::new();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for (_, _, payload) in items(exchanges) {
        let is_new = |of: &&Node| is_identifier(of.tag) && !seen.contains(&of.value);
        let names: Vec<Vec<u8>> = payload.children.iter().filter(is_new).map(|id| id.value.clone()).collect();
        if payload.children.iter().all(|child| matches!(child.tag, tag::UNIQUE_IDENTIFIER | tag::LOCATED_ITEMS)) {
            located.extend(names.iter().cloned());
        }
        seen.extend(names);
    }
    // Only a Locate finds what nobody has named yet, and a name that another operation gave was seen there.
    let is_found = |id: &Vec<u8>| {
        items(exchanges)
            .find(|(_, _, payload)| payload.children.iter().any(|named| is_identifier(named.tag) && named.value == *id))
            .is_some_and(|(operation, _, _)| operation == Operation::LOCATE)
    };
    located.retain(is_found);
    located.iter().filter_map(|id| registration(exchanges, id, version)).collect()
}

/// The batch items of a case that went well: the operation, what was asked and what was answered.
fn items(exchanges: &[(Node, Node)]) -> impl Iterator<Item = (Operation, &Node, &Node)> {
    exchanges.iter().flat_map(|(request, answer)| request.all(tag::BATCH_ITEM).zip(answer.all(tag::BATCH_ITEM))).filter_map(
        |(asked, answered)| {
            let operation = super::compare::operation(asked)?;
            Some((operation, asked.child(tag::REQUEST_PAYLOAD)?, answered.child(tag::RESPONSE_PAYLOAD)?))
        },
    )
}

/// The objects by their tags.
const OBJECTS: &[Tag] = &[
    tag::CERTIFICATE,
    tag::SYMMETRIC_KEY,
    tag::PUBLIC_KEY,
    tag::PRIVATE_KEY,
    tag::SPLIT_KEY,
    tag::SECRET_DATA,
    tag::OPAQUE_OBJECT,
    tag::PGP_KEY,
];

/// A request that registers an object as the answers about it show it; nothing when none shows the object itself.
fn registration(exchanges: &[(Node, Node)], id: &[u8], version: Version) -> Option<Node> {
    let is_named = version < Version::V2_0;
    let (mut object_type, mut object, mut created) = (None, None, false);
    let mut listed: Vec<Node> = Vec::new();
    let mut attributes: Vec<Node> = Vec::new();
    let about = items(exchanges).filter(|(_, _, payload)| payload.all(tag::UNIQUE_IDENTIFIER).any(|named| named.value == id));
    for (operation, asked, answered) in about {
        let shown = match operation {
            Operation::LOCATE => asked,
            Operation::GET_ATTRIBUTES => answered,
            Operation::GET_ATTRIBUTE_LIST => {
                listed.extend(answered.all(tag::ATTRIBUTE_NAME).cloned());
                let named = |child: &Node| match child.tag {
                    tag::ATTRIBUTE_NAME => child.as_text() == Some("Original Creation Date"),
                    _ => child.tag == tag::ATTRIBUTE_REFERENCE && child.as_number() == Some(tag::ORIGINAL_CREATION_DATE.number()),
                };
                created |= answered.children.iter().any(named);
                continue;
            }
            Operation::GET if object.is_none() => {
                object_type = answered.child(tag::OBJECT_TYPE).cloned();
                object = answered.children.iter().find(|child| OBJECTS.contains(&child.tag)).cloned();
                continue;
            }
            _ => continue,
        };
        let shown: Vec<&Node> = match is_named {
            true => shown.all(tag::ATTRIBUTE).collect(),
            false => shown.child(tag::ATTRIBUTES).into_iter().flat_map(|all| &all.children).collect(),
        };
        let is_template = |attribute: &&Node| {
            let value = attribute.child(tag::ATTRIBUTE_VALUE);
            value.is_some_and(|value| value.means == tag::OBJECT_TYPE && value.as_number() == Some(ObjectType::TEMPLATE.0))
        };
        // A template is its attributes.
        if shown.iter().any(is_template) {
            object_type = Some(Node::enumeration(tag::OBJECT_TYPE, ObjectType::TEMPLATE.0));
        }
        for attribute in shown {
            if may_be_given(attribute) && !attributes.iter().any(|other| other.to_bytes() == attribute.to_bytes()) {
                attributes.push(attribute.clone());
            }
        }
    }
    // A client's attribute that is only listed may hold anything.
    for name in listed.into_iter().filter(|name| name.as_text().is_some_and(|name| name.starts_with("x-"))) {
        if !attributes.iter().any(|other| other.text(tag::ATTRIBUTE_NAME) == name.as_text()) {
            let value = Node { tag: tag::ATTRIBUTE_VALUE, means: tag::ATTRIBUTE_VALUE, ..name.clone() };
            attributes.push(Node::structure(tag::ATTRIBUTE, vec![name, value]));
        }
    }
    // What the server made itself has the date, and whoever brings it has to say it.
    if created {
        let date = |tag| Node { ty: Type::DateTime, value: 1_i64.to_be_bytes().to_vec(), ..Node::integer(tag, 0) };
        attributes.push(match is_named {
            true => Node::structure(
                tag::ATTRIBUTE,
                vec![
                    Node {
                        ty: Type::TextString,
                        value: b"Original Creation Date".to_vec(),
                        ..Node::integer(tag::ATTRIBUTE_NAME, 0)
                    },
                    date(tag::ATTRIBUTE_VALUE),
                ],
            ),
            false => date(tag::ORIGINAL_CREATION_DATE),
        });
    }
    if object.is_none() && object_type.as_ref().and_then(Node::as_number) == Some(ObjectType::TEMPLATE.0) {
        object = Some(Node::structure(tag::TEMPLATE, std::mem::take(&mut attributes)));
    }
    let attributes = if is_named {
        Node::structure(tag::TEMPLATE_ATTRIBUTE, attributes)
    } else {
        Node::structure(tag::ATTRIBUTES, attributes)
    };
    let item = Node::structure(
        tag::BATCH_ITEM,
        vec![
            Node::enumeration(tag::OPERATION, Operation::REGISTER.0),
            Node::structure(tag::REQUEST_PAYLOAD, vec![object_type?, attributes, object?]),
        ],
    );
    let protocol = Node::structure(
        tag::PROTOCOL_VERSION,
        vec![
            Node::integer(tag::PROTOCOL_VERSION_MAJOR, version.major.into()),
            Node::integer(tag::PROTOCOL_VERSION_MINOR, version.minor.into()),
        ],
    );
    // Whoever looks for it is the one whose it is.
    let authentication = exchanges.first().and_then(|(asked, _)| asked.child(tag::REQUEST_HEADER)?.child(tag::AUTHENTICATION));
    let header = [Some(protocol), authentication.cloned(), Some(Node::integer(tag::BATCH_COUNT, 1))];
    let header = Node::structure(tag::REQUEST_HEADER, header.into_iter().flatten().collect());
    Some(Node::structure(tag::REQUEST_MESSAGE, vec![header, item]))
}

/// Whether a client gives an attribute, and the server does not set it by itself.
fn may_be_given(attribute: &Node) -> bool {
    let mut means = attribute.tag;
    for value in attribute.all(tag::ATTRIBUTE_VALUE).filter(|_| attribute.tag == tag::ATTRIBUTE) {
        means = value.means;
    }
    let of_server = spec::attribute_row(means).is_some_and(|row| row.set_by == SetBy::Server);
    let follows = matches!(means, tag::RANDOM_NUMBER_GENERATOR | tag::ORIGINAL_CREATION_DATE | tag::FRESH);
    !of_server && !follows
}
