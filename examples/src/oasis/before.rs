//! What a case presupposes: some go on where another one left off, and what they find was registered there.

use super::compare::is_identifier;
use super::tree::Node;
use keyferry_kmip::spec::{self, ObjectType, Operation, SetBy, tag};
use keyferry_ttlv::{Tag, Version};

/// The requests that make or register what a case locates without having done so, as its own answers show each object.
pub fn registrations(exchanges: &[(Node, Node)], version: Version) -> Vec<Node> {
    let mut located: Vec<Vec<u8>> = Vec::new();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for (_, _, payload) in items(exchanges) {
        let is_located = |of: &&Node| is_identifier(of.tag) && !seen.contains(&of.value);
        let names: Vec<Vec<u8>> = payload
            .children
            .iter()
            .filter(is_located)
            .map(|id| id.value.clone())
            .collect();
        if payload
            .children
            .iter()
            .all(|child| matches!(child.tag, tag::UNIQUE_IDENTIFIER | tag::LOCATED_ITEMS))
        {
            located.extend(names.iter().cloned());
        }
        seen.extend(names);
    }
    // Only a Locate finds what nobody has named yet, and a name that another operation gave was seen there.
    let is_found = |id: &Vec<u8>| {
        items(exchanges)
            .find(|(_, _, payload)| {
                payload
                    .children
                    .iter()
                    .any(|named| is_identifier(named.tag) && named.value == *id)
            })
            .is_some_and(|(operation, _, _)| operation == Operation::LOCATE)
    };
    located.retain(is_found);
    located
        .iter()
        .filter_map(|id| registration(exchanges, id, version))
        .collect()
}

/// The batch items of a case that went well: the operation, what was asked and what was answered.
fn items(exchanges: &[(Node, Node)]) -> impl Iterator<Item = (Operation, &Node, &Node)> {
    exchanges
        .iter()
        .flat_map(|(request, answer)| {
            request
                .all(tag::BATCH_ITEM)
                .zip(answer.all(tag::BATCH_ITEM))
        })
        .filter_map(|(asked, answered)| {
            let operation = super::compare::operation(asked)?;
            Some((
                operation,
                asked.child(tag::REQUEST_PAYLOAD)?,
                answered.child(tag::RESPONSE_PAYLOAD)?,
            ))
        })
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

/// A request that creates a symmetric key, or registers another object, as the answers about it show it; nothing when none shows the object
/// itself. Whoever goes on with it is who asks first in the case.
fn registration(exchanges: &[(Node, Node)], id: &[u8], version: Version) -> Option<Node> {
    let is_named = version < Version::V2_0;
    let (mut object_type, mut object) = (None, None);
    let mut listed: Vec<Node> = Vec::new();
    let mut attributes: Vec<Node> = Vec::new();
    let about = items(exchanges).filter(|(_, _, payload)| {
        payload
            .all(tag::UNIQUE_IDENTIFIER)
            .any(|named| named.value == id)
    });
    for (operation, asked, answered) in about {
        let shown = match operation {
            Operation::LOCATE => asked,
            Operation::GET_ATTRIBUTES => answered,
            Operation::GET_ATTRIBUTE_LIST => {
                listed.extend(answered.all(tag::ATTRIBUTE_NAME).cloned());
                continue;
            }
            Operation::GET if object.is_none() => {
                object_type = answered.child(tag::OBJECT_TYPE).cloned();
                object = answered
                    .children
                    .iter()
                    .find(|child| OBJECTS.contains(&child.tag))
                    .cloned();
                continue;
            }
            _ => continue,
        };
        let shown: Vec<&Node> = match is_named {
            true => shown.all(tag::ATTRIBUTE).collect(),
            false => shown
                .child(tag::ATTRIBUTES)
                .into_iter()
                .flat_map(|all| &all.children)
                .collect(),
        };
        let is_template = |attribute: &&Node| {
            let value = attribute.child(tag::ATTRIBUTE_VALUE);
            value.is_some_and(|value| {
                value.means == tag::OBJECT_TYPE && value.as_number() == Some(ObjectType::TEMPLATE.0)
            })
        };
        // A template is its attributes.
        if shown.iter().any(is_template) {
            object_type = Some(Node::enumeration(tag::OBJECT_TYPE, ObjectType::TEMPLATE.0));
        }
        for attribute in shown {
            if may_be_given(attribute)
                && !attributes
                    .iter()
                    .any(|other| other.to_bytes() == attribute.to_bytes())
            {
                attributes.push(attribute.clone());
            }
        }
    }
    // A client's attribute that is only listed may hold anything.
    for name in listed
        .into_iter()
        .filter(|name| name.as_text().is_some_and(|name| name.starts_with("x-")))
    {
        if !attributes
            .iter()
            .any(|other| other.text(tag::ATTRIBUTE_NAME) == name.as_text())
        {
            let value = Node {
                tag: tag::ATTRIBUTE_VALUE,
                means: tag::ATTRIBUTE_VALUE,
                ..name.clone()
            };
            attributes.push(Node::structure(tag::ATTRIBUTE, vec![name, value]));
        }
    }
    if object.is_none()
        && object_type.as_ref().and_then(Node::as_number) == Some(ObjectType::TEMPLATE.0)
    {
        object = Some(Node::structure(
            tag::TEMPLATE,
            std::mem::take(&mut attributes),
        ));
    }
    let attributes = if is_named {
        Node::structure(tag::TEMPLATE_ATTRIBUTE, attributes)
    } else {
        Node::structure(tag::ATTRIBUTES, attributes)
    };
    let (object_type, object) = (object_type?, object?);
    let (operation, payload) = match (object_type.as_number(), of_key(&object)) {
        (Some(number), [Some(algorithm), Some(length)])
            if number == ObjectType::SYMMETRIC_KEY.0 =>
        {
            let mut attributes = attributes;
            attributes
                .children
                .extend([algorithm, length].map(|node| attribute(node, is_named)));
            (Operation::CREATE, vec![object_type, attributes])
        }
        _ => (Operation::REGISTER, vec![object_type, attributes, object]),
    };
    let payload = Node::structure(tag::REQUEST_PAYLOAD, payload);
    let item = Node::structure(
        tag::BATCH_ITEM,
        vec![Node::enumeration(tag::OPERATION, operation.0), payload],
    );
    let protocol = Node::structure(
        tag::PROTOCOL_VERSION,
        vec![
            Node::integer(tag::PROTOCOL_VERSION_MAJOR, version.major.into()),
            Node::integer(tag::PROTOCOL_VERSION_MINOR, version.minor.into()),
        ],
    );
    let authentication = exchanges.first().and_then(|(request, _)| {
        request
            .child(tag::REQUEST_HEADER)?
            .child(tag::AUTHENTICATION)
    });
    let header = [
        Some(protocol),
        authentication.cloned(),
        Some(Node::integer(tag::BATCH_COUNT, 1)),
    ];
    let header = Node::structure(tag::REQUEST_HEADER, header.into_iter().flatten().collect());
    Some(Node::structure(tag::REQUEST_MESSAGE, vec![header, item]))
}

/// Algorithm and length of a key that is shown in the clear.
fn of_key(object: &Node) -> [Option<&Node>; 2] {
    let block = object.child(tag::KEY_BLOCK);
    [tag::CRYPTOGRAPHIC_ALGORITHM, tag::CRYPTOGRAPHIC_LENGTH]
        .map(|tag| block.and_then(|block| block.child(tag)))
}

/// The same as an attribute of the version.
fn attribute(node: &Node, is_named: bool) -> Node {
    if !is_named {
        return node.clone();
    }
    let name = Node::text_string(tag::ATTRIBUTE_NAME, &node.label());
    Node::structure(
        tag::ATTRIBUTE,
        vec![
            name,
            Node {
                tag: tag::ATTRIBUTE_VALUE,
                ..node.clone()
            },
        ],
    )
}

/// Whether a client gives an attribute, and the server does not set it by itself.
fn may_be_given(attribute: &Node) -> bool {
    let mut means = attribute.tag;
    for value in attribute
        .all(tag::ATTRIBUTE_VALUE)
        .filter(|_| attribute.tag == tag::ATTRIBUTE)
    {
        means = value.means;
    }
    let of_server = spec::attribute_row(means).is_some_and(|row| row.set_by == SetBy::Server);
    let follows = matches!(
        means,
        tag::RANDOM_NUMBER_GENERATOR | tag::ORIGINAL_CREATION_DATE | tag::FRESH
    );
    !of_server && !follows
}
