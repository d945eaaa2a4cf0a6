//! Compares the answer of a server with the one that a test case has, by the notation's rules (KMIP Additional Message Encodings 1.0
//! §8.4, Permitted Test Case Variations; the profiles repeat them).
//!
//! Everything is equal but for:
//! - placeholders: the first answer binds one, and it stands for that value from then on; no two identifiers are the same;
//! - `$NOW` and what is added to it: a moment between the case's beginning and now;
//! - an identifier that is written in full, and that no request gave: it is the one that was asked for;
//! - dates that a server sets, where no request gave them; what a server chooses for itself (Lease Time, Random Number Generator,
//!   Short Unique Identifier, Protection Storage Mask, the hash of a Digest) where no request gave it;
//! - material that a server made, and what is computed from it: the same bytes of the case stand for the same bytes here;
//! - Time Stamp, Result Message, Server Correlation Value, templates in an answer, an Attribute Index of 0 since 1.1, Located Items where
//!   the case has none;
//! - what a server says of itself in Query: its vendor, its extensions, its capabilities. Operations (of those that are tried here) and
//!   Object Types of the case must be among those that are answered;
//! - attributes that the case does not have, where all were asked for. Attributes stand in any order.

use super::case::Message;
use super::tree::Node;
use keyferry_kmip::spec::{ObjectType, Operation, tag};
use keyferry_ttlv::{Tag, Type, Version};
use std::collections::{BTreeMap, BTreeSet};

/// What is known while a case is played.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What placeholders stand for.
    bound: BTreeMap<String, Vec<u8>>,
    /// The bytes of the case that stand for others here.
    chosen: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The identifiers of objects that the server made.
    made: BTreeSet<Vec<u8>>,
    /// What requests have given: the meaning and the value.
    given: BTreeSet<(Tag, Vec<u8>)>,
    /// When the case began and what the time is, in seconds since 1970.
    pub began: i64,
    /// See `began`.
    pub now: i64,
}

/// Where an answer is not the one of the case.
#[derive(Debug)]
pub struct Difference {
    /// Down to the item, outermost first.
    pub path: Vec<String>,
    /// What is wrong there.
    pub why: String,
    /// The number of the case's item, the message being item 0.
    pub number: usize,
}

type Compared = Result<(), Difference>;

impl Known {
    /// Nothing but when a case begins.
    pub fn at(now: i64) -> Known {
        Known {
            began: now,
            now,
            ..Known::default()
        }
    }

    /// What a placeholder stands for.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.bound.get(name).map(Vec::as_slice)
    }

    /// Takes note of what a request gives.
    pub fn give(&mut self, request: &Node) {
        request.walk(&mut |item| {
            self.given.insert((item.means, item.value.clone()));
        });
    }

    /// Takes note of what the server made in answer to a request.
    pub fn make(&mut self, answer: &Node) {
        for payload in answer
            .all(tag::BATCH_ITEM)
            .filter_map(|item| item.child(tag::RESPONSE_PAYLOAD))
        {
            let identifiers = payload
                .children
                .iter()
                .filter(|child| is_identifier(child.tag));
            self.made
                .extend(identifiers.map(|child| child.value.clone()));
        }
    }

    fn was_given(&self, means: Tag) -> bool {
        self.given
            .range((means, Vec::new())..)
            .next()
            .is_some_and(|(tag, _)| *tag == means)
    }

    /// Compares the answer to `request` with that of the case, and binds its placeholders.
    ///
    /// # Errors
    /// The first difference.
    pub fn compare(
        &mut self,
        message: &Message,
        request: &Node,
        expected: &Node,
        actual: &Node,
        version: Version,
    ) -> Result<(), Difference> {
        let names = message
            .placeholders
            .iter()
            .map(|placeholder| placeholder.name.clone())
            .collect();
        for item in actual.all(tag::BATCH_ITEM) {
            let makes = [
                Operation::CREATE,
                Operation::CREATE_KEY_PAIR,
                Operation::RE_KEY,
                Operation::RE_KEY_KEY_PAIR,
            ];
            if operation(item).is_some_and(|operation| makes.contains(&operation)) {
                let payload = item
                    .child(tag::RESPONSE_PAYLOAD)
                    .into_iter()
                    .flat_map(|payload| &payload.children);
                self.made.extend(
                    payload
                        .filter(|child| is_identifier(child.tag))
                        .map(|child| child.value.clone()),
                );
            }
        }
        let asked: Vec<&Node> = request.all(tag::BATCH_ITEM).collect();
        let scope = Scope {
            names: &names,
            version,
            asked: &asked,
            item: None,
            made: false,
            digest: false,
        };
        scope.item(self, expected, actual)
    }
}

/// The operation of a batch item.
pub fn operation(item: &Node) -> Option<Operation> {
    item.child(tag::OPERATION)
        .and_then(Node::as_number)
        .map(Operation)
}

/// Whether a tag names an object in an answer.
pub fn is_identifier(tag: Tag) -> bool {
    matches!(
        tag,
        tag::UNIQUE_IDENTIFIER
            | tag::PRIVATE_KEY_UNIQUE_IDENTIFIER
            | tag::PUBLIC_KEY_UNIQUE_IDENTIFIER
    )
}

/// What `$NOW` is filled with in the answers of a case, so that it can be told from dates that are written in full.
pub const MARK: i64 = 1 << 60;

/// The dates of §8.4.1.
const DATES: &[Tag] = &[
    tag::ACTIVATION_DATE,
    tag::ARCHIVE_DATE,
    tag::COMPROMISE_DATE,
    tag::COMPROMISE_OCCURRENCE_DATE,
    tag::DEACTIVATION_DATE,
    tag::DESTROY_DATE,
    tag::INITIAL_DATE,
    tag::LAST_CHANGE_DATE,
    tag::PROTECT_STOP_DATE,
    tag::PROCESS_START_DATE,
    tag::VALIDITY_DATE,
    tag::ORIGINAL_CREATION_DATE,
];

/// What a server chooses where no request gave it.
const CHOSEN: &[Tag] = &[
    tag::LEASE_TIME,
    tag::RANDOM_NUMBER_GENERATOR,
    tag::SHORT_UNIQUE_IDENTIFIER,
    tag::PROTECTION_STORAGE_MASK,
];

/// What may be missing on either side, and is not looked into.
const FREE: &[Tag] = &[
    tag::TIME_STAMP,
    tag::RESULT_MESSAGE,
    tag::SERVER_CORRELATION_VALUE,
    tag::TEMPLATE_ATTRIBUTE,
    tag::PRIVATE_KEY_TEMPLATE_ATTRIBUTE,
    tag::PUBLIC_KEY_TEMPLATE_ATTRIBUTE,
    tag::MESSAGE_EXTENSION,
];

/// What a server says of itself in Query, each in its own words.
const ITSELF: &[Tag] = &[
    tag::VENDOR_IDENTIFICATION,
    tag::SERVER_INFORMATION,
    tag::APPLICATION_NAMESPACE,
    tag::EXTENSION_INFORMATION,
    tag::ATTESTATION_TYPE,
    tag::RNG_PARAMETERS,
    tag::PROFILE_INFORMATION,
    tag::VALIDATION_INFORMATION,
    tag::CLIENT_REGISTRATION_METHOD,
    tag::DEFAULTS_INFORMATION,
    tag::PROTECTION_STORAGE_MASKS,
];

/// Where the comparison is.
#[derive(Clone, Copy)]
struct Scope<'a> {
    /// The placeholders in the message.
    names: &'a BTreeSet<String>,
    version: Version,
    /// The request's batch items.
    asked: &'a [&'a Node],
    /// The one that is answered here.
    item: Option<&'a Node>,
    /// Whether the object here was made by the server.
    made: bool,
    /// Whether this is within a Digest.
    digest: bool,
}

impl<'a> Scope<'a> {
    fn operation(&self) -> Option<Operation> {
        self.item.and_then(operation)
    }

    /// Whether the request names a tag in its payload.
    fn asks(&self, tag: Tag) -> bool {
        self.item
            .and_then(|item| item.child(tag::REQUEST_PAYLOAD))
            .is_some_and(|payload| payload.child(tag).is_some())
    }

    /// The placeholder that an item is.
    fn placeholder(&self, expected: &Node) -> Option<&'a str> {
        let text = std::str::from_utf8(&expected.value).ok()?;
        let name = text
            .strip_prefix('$')
            .filter(|_| matches!(expected.ty, Type::TextString | Type::ByteString))?;
        self.names.get(name).map(String::as_str)
    }

    fn item(self, known: &mut Known, expected: &Node, actual: &Node) -> Compared {
        let wrong = |why: String| {
            Err(Difference {
                path: vec![expected.label()],
                why,
                number: expected.number,
            })
        };
        if expected.tag != actual.tag {
            return wrong(format!(
                "expected {}, found {}",
                expected.label(),
                actual.label()
            ));
        }
        if FREE.contains(&expected.tag)
            || (self.operation() == Some(Operation::QUERY) && ITSELF.contains(&expected.tag))
        {
            return Ok(());
        }
        let any_form = self.made
            && matches!(expected.tag, tag::KEY_MATERIAL | tag::KEY_VALUE)
            && !self.asks(tag::KEY_FORMAT_TYPE);
        if expected.ty != actual.ty && !any_form {
            return wrong(format!("expected {:?}, found {:?}", expected.ty, actual.ty));
        }
        if expected.ty == Type::Structure
            && CHOSEN.contains(&expected.means)
            && !known.was_given(expected.means)
        {
            return Ok(());
        }
        if expected.ty == Type::Structure && actual.ty == Type::Structure {
            let inside = self.within(known, expected, actual);
            return inside
                .children(known, expected, actual)
                .map_err(|mut difference| {
                    difference.path.insert(0, expected.label());
                    difference
                });
        }
        match self.value(known, expected, actual) {
            Ok(()) => Ok(()),
            Err(None) => {
                let (was, is) = (expected.shown(self.version), actual.shown(self.version));
                wrong(if was == is {
                    format!("{is}, but not the same")
                } else {
                    format!("expected {was}, found {is}")
                })
            }
            Err(Some(why)) => wrong(why),
        }
    }

    /// The scope in a structure.
    fn within(mut self, known: &Known, expected: &Node, actual: &Node) -> Scope<'a> {
        match expected.means {
            tag::RESPONSE_PAYLOAD => {
                self.made = actual
                    .child(tag::UNIQUE_IDENTIFIER)
                    .is_some_and(|id| known.made.contains(&id.value));
            }
            // Wrapped under a key that the server made, it is as good as made itself.
            tag::KEY_BLOCK => {
                actual.walk(&mut |item| {
                    self.made |=
                        item.tag == tag::UNIQUE_IDENTIFIER && known.made.contains(&item.value);
                });
            }
            tag::DIGEST => self.digest = true,
            _ => {}
        }
        self
    }

    /// A value that is no structure; in an error the reason, if it is another than that they differ.
    fn value(
        self,
        known: &mut Known,
        expected: &Node,
        actual: &Node,
    ) -> Result<(), Option<String>> {
        let alike = |same| if same { Ok(()) } else { Err(None) };
        if let Some(name) = self.placeholder(expected) {
            return known.bind(name, &actual.value);
        }
        if let (Some(was), Some(is)) = (expected.as_date(), actual.as_date()) {
            let offset = was - MARK;
            if offset.abs() < i64::from(i32::MAX) {
                return alike((known.began..=known.now).contains(&(is - offset)));
            }
            let free = DATES.contains(&expected.means)
                && !known
                    .given
                    .contains(&(expected.means, expected.value.clone()));
            return alike(was == is || free);
        }
        if self.operation() == Some(Operation::QUERY)
            && expected.ty != Type::Structure
            && is_capability(expected.tag)
        {
            return Ok(());
        }
        let equal = expected.value == actual.value;
        // An identifier written in full is the writer's server's, and stands for the object that was asked for.
        if is_identifier(expected.tag)
            && !known
                .given
                .contains(&(expected.means, expected.value.clone()))
        {
            let asked = self
                .item
                .and_then(|item| item.child(tag::REQUEST_PAYLOAD)?.child(expected.tag));
            return alike(equal || asked.is_some_and(|asked| asked.value == actual.value));
        }
        match expected.means {
            means if CHOSEN.contains(&means) => alike(equal || !known.was_given(means)),
            tag::LINKED_OBJECT_IDENTIFIER => alike(equal),
            tag::HASHING_ALGORITHM if self.digest => Ok(()),
            tag::KEY_FORMAT_TYPE if self.made && !self.asks(tag::KEY_FORMAT_TYPE) => Ok(()),
            _ if self.made && is_material(expected.means) => {
                let symmetric = expected.tag == tag::KEY_MATERIAL
                    && !self.asks(tag::KEY_WRAPPING_SPECIFICATION);
                if symmetric
                    && expected.value.len() <= 64
                    && expected.value.len() != actual.value.len()
                {
                    return Err(None);
                }
                known.choose(&expected.value, &actual.value)
            }
            _ => alike(equal),
        }
    }

    fn children(self, known: &mut Known, expected: &Node, actual: &Node) -> Compared {
        if expected.tag == tag::ATTRIBUTES {
            let (wanted, left) = (
                expected.children.iter().collect(),
                actual.children.iter().collect(),
            );
            return self.unordered(known, wanted, left, expected, self.asks_for_all());
        }
        let ours = self.in_any_order(expected);
        let plain = |node: &'_ Node| !ours.contains(&node.tag);
        let mut left = actual
            .children
            .iter()
            .filter(|child| plain(child))
            .peekable();
        let mut count = 0;
        for child in expected.children.iter().filter(|child| plain(child)) {
            while left
                .next_if(|other| other.tag != child.tag && self.may_stand(expected, other))
                .is_some()
            {}
            let missing = || Difference {
                path: vec![child.label()],
                why: "is missing".to_owned(),
                number: child.number,
            };
            let Some(found) = left.next_if(|other| other.tag == child.tag) else {
                if self.may_stand(expected, child) {
                    continue;
                }
                return Err(match left.peek() {
                    Some(other) => Difference {
                        why: format!("is missing, {} is there", other.label()),
                        ..missing()
                    },
                    None => missing(),
                });
            };
            let mut scope = self;
            if child.tag == tag::BATCH_ITEM {
                scope.item = self.asked.get(count).copied();
                count += 1;
            }
            scope.item(known, child, found)?;
        }
        if let Some(additional) = left.find(|other| !self.may_stand(expected, other)) {
            return Err(Difference {
                path: vec![additional.label()],
                why: format!("is not in the case: {}", additional.shown(self.version)),
                number: expected.number,
            });
        }
        for tag in ours {
            self.set(known, *tag, expected, actual)?;
        }
        Ok(())
    }

    /// Whether a child may be missing on either side.
    fn may_stand(&self, parent: &Node, child: &Node) -> bool {
        match child.tag {
            tag::ATTRIBUTE_INDEX => self.version > Version::V1_0 && child.as_number() == Some(0),
            tag::LOCATED_ITEMS => parent.child(tag::LOCATED_ITEMS).is_none(),
            // Some cases of 1.4 have those that came with it, and others do not.
            tag if is_capability(tag) => parent.child(tag).is_none(),
            tag => {
                FREE.contains(&tag)
                    || (self.operation() == Some(Operation::QUERY) && ITSELF.contains(&tag))
            }
        }
    }

    /// The tags whose items stand in any order in a structure.
    fn in_any_order(&self, parent: &Node) -> &'static [Tag] {
        match (parent.tag, self.operation()) {
            (tag::RESPONSE_PAYLOAD, Some(Operation::QUERY)) => &[tag::OPERATION, tag::OBJECT_TYPE],
            (tag::RESPONSE_PAYLOAD, Some(Operation::DISCOVER_VERSIONS))
                if !self.asks(tag::PROTOCOL_VERSION) =>
            {
                &[tag::PROTOCOL_VERSION]
            }
            (tag::RESPONSE_PAYLOAD, _) => &[
                tag::ATTRIBUTE,
                tag::ATTRIBUTE_NAME,
                tag::ATTRIBUTE_REFERENCE,
            ],
            (tag::KEY_VALUE, _) => &[tag::ATTRIBUTE],
            _ => &[],
        }
    }

    /// Items of one tag in any order: each of the case's finds one of its own.
    fn set(self, known: &mut Known, tag: Tag, expected: &Node, actual: &Node) -> Compared {
        let additional = match tag {
            tag::ATTRIBUTE | tag::ATTRIBUTE_NAME | tag::ATTRIBUTE_REFERENCE => self.asks_for_all(),
            _ => true,
        };
        let has = |value| ObjectType::DOMAIN.has(value, self.version);
        let wanted = expected.all(tag).filter(|item| match tag {
            tag::OPERATION => is_tried(item),
            // Templates are asked for in 2.0 too, which has none.
            tag::OBJECT_TYPE => item.as_number().is_none_or(has),
            _ => true,
        });
        self.unordered(
            known,
            wanted.collect(),
            actual.all(tag).collect(),
            expected,
            additional,
        )
    }

    fn unordered(
        self,
        known: &mut Known,
        wanted: Vec<&Node>,
        mut left: Vec<&Node>,
        parent: &Node,
        additional: bool,
    ) -> Compared {
        for item in wanted {
            let mut closest = None;
            let mut found = None;
            for (at, candidate) in left.iter().enumerate() {
                let mut tried = known.clone();
                match self.item(&mut tried, item, candidate) {
                    Ok(()) => {
                        *known = tried;
                        found = Some(at);
                        break;
                    }
                    Err(difference)
                        if candidate.label() == item.label() && item.ty == Type::Structure =>
                    {
                        closest.get_or_insert(difference);
                    }
                    Err(_) => {}
                }
            }
            match (found, closest) {
                (Some(at), _) => drop(left.remove(at)),
                (None, Some(difference)) => return Err(difference),
                (None, None) => {
                    let why = match item.ty {
                        Type::Structure => "is missing".to_owned(),
                        _ => format!("{} is missing", item.shown(self.version)),
                    };
                    return Err(Difference {
                        path: vec![item.label()],
                        why,
                        number: item.number,
                    });
                }
            }
        }
        match left.first() {
            Some(more) if !additional => Err(Difference {
                path: vec![more.label()],
                why: format!("is not in the case: {}", more.shown(self.version)),
                number: parent.number,
            }),
            _ => Ok(()),
        }
    }

    /// Whether the request asks for all attributes there are.
    fn asks_for_all(&self) -> bool {
        match self.operation() {
            Some(Operation::GET_ATTRIBUTES | Operation::EXPORT) => {
                !self.asks(tag::ATTRIBUTE_NAME) && !self.asks(tag::ATTRIBUTE_REFERENCE)
            }
            Some(Operation::GET_ATTRIBUTE_LIST) => true,
            _ => false,
        }
    }
}

/// Whether an item names an operation that is tried here.
fn is_tried(item: &Node) -> bool {
    item.as_number()
        .is_some_and(|number| super::replay::TRIED.contains(&Operation(number)))
}

fn is_material(means: Tag) -> bool {
    matches!(
        means,
        tag::KEY_MATERIAL
            | tag::KEY_VALUE
            | tag::DIGEST_VALUE
            | tag::MODULUS
            | tag::PUBLIC_EXPONENT
            | tag::PRIVATE_EXPONENT
            | tag::P
            | tag::Q
            | tag::PRIME_EXPONENT_P
            | tag::PRIME_EXPONENT_Q
            | tag::CRT_COEFFICIENT
            | tag::KEY
            | tag::D
            | tag::Q_STRING
    )
}

fn is_capability(tag: Tag) -> bool {
    matches!(
        tag,
        tag::STREAMING_CAPABILITY
            | tag::ASYNCHRONOUS_CAPABILITY
            | tag::ATTESTATION_CAPABILITY
            | tag::BATCH_UNDO_CAPABILITY
            | tag::BATCH_CONTINUE_CAPABILITY
            | tag::UNWRAP_MODE
            | tag::DESTROY_ACTION
            | tag::SHREDDING_ALGORITHM
            | tag::RNG_MODE
    )
}

impl Known {
    fn bind(&mut self, name: &str, value: &[u8]) -> Result<(), Option<String>> {
        if let Some(bound) = self.bound.get(name) {
            return if bound == value {
                Ok(())
            } else {
                Err(Some(format!("not what ${name} stood for before")))
            };
        }
        let is_identifier = name.starts_with("UNIQUE_IDENTIFIER");
        let twice = |(other, bound): (&String, &Vec<u8>)| {
            other.starts_with("UNIQUE_IDENTIFIER") && bound == value
        };
        if is_identifier
            && let Some((other, _)) = self
                .bound
                .iter()
                .find(|(other, bound)| twice((other, bound)))
        {
            return Err(Some(format!("${name} would be what ${other} stands for")));
        }
        if value.is_empty() {
            return Err(Some(format!("nothing that ${name} could stand for")));
        }
        self.bound.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn choose(&mut self, expected: &[u8], actual: &[u8]) -> Result<(), Option<String>> {
        match self.chosen.get(expected) {
            Some(before) if before != actual => Err(Some("other bytes than before".to_owned())),
            Some(_) => Ok(()),
            None => {
                self.chosen.insert(expected.to_vec(), actual.to_vec());
                Ok(())
            }
        }
    }
}
