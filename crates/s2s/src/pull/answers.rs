//! What a server's answers show of one object.

use crate::pull::{Sought, Why};
use crate::report::{ObjectResult, Outcome};
use crate::wire::copy::{Copy, KeyferryExtension};
use keyferry_kmip::spec::{AttributeValue, ObjectType, Operation, ResultReason as Reason};
use keyferry_kmip::{
    Attributes, ExportResponse, GetAttributesResponse, GetResponse, Object, ResponseItem, Text,
    UniqueIdentifier, lifecycle,
};
use keyferry_ttlv::Context;

/// What a server showed of an object that was asked for.
pub(crate) enum FetchedObject {
    Object(Box<FetchedContent>),
    ObjectResult(ObjectResult),
}

/// An object as the server showed it.
pub(crate) struct FetchedContent {
    pub(super) identifier: Text,
    pub(super) object_type: ObjectType,
    pub(super) attributes: Attributes,
    pub(super) object: Option<Object>,
    pub(super) copy: Option<Copy>,
}

/// Reads the answers about one object; the error is what to tell of it.
pub(crate) fn fetched_object(
    sought: &Sought,
    items: &[ResponseItem],
    cx: Context,
) -> Result<FetchedObject, ObjectResult> {
    let unreadable = |e: &dyn std::fmt::Display| {
        ObjectResult::failed(
            &sought.identifier,
            None,
            format!("the answer can't be read: {e}"),
        )
    };
    let is_it = |answered: &UniqueIdentifier| match answered.as_text() {
        Some(text) if text == sought.identifier.as_str() => Ok(()),
        _ => Err(ObjectResult::failed(
            &sought.identifier,
            None,
            "the server answered about another object",
        )),
    };
    if let Some(refused) = items.iter().find(|item| {
        !item.is_success()
            && matches!(
                item.operation,
                Some(Operation::GET_ATTRIBUTES | Operation::EXPORT) | None
            )
    }) {
        return Err(refusal(sought, refused));
    }
    let (mut attributes, mut got, mut refused) = (None, None, None);
    for item in items {
        match item.operation {
            Some(Operation::EXPORT) => {
                let answer: ExportResponse = item.payload(cx).map_err(|e| unreadable(&e))?;
                is_it(&answer.unique_identifier)?;
                let copy = KeyferryExtension::find(&item.message_extension)
                    .map_err(|e| unreadable(&e))?
                    .copy;
                return Ok(FetchedObject::Object(Box::new(FetchedContent {
                    identifier: sought.identifier.clone(),
                    object_type: answer.object_type,
                    attributes: answer.attributes,
                    object: answer.object,
                    copy,
                })));
            }
            Some(Operation::GET_ATTRIBUTES) => {
                let answer: GetAttributesResponse = item.payload(cx).map_err(|e| unreadable(&e))?;
                is_it(&answer.unique_identifier)?;
                attributes = Some(answer.attributes);
            }
            Some(Operation::GET) if item.is_success() => {
                let answer: GetResponse = item.payload(cx).map_err(|e| unreadable(&e))?;
                is_it(&answer.unique_identifier)?;
                got = Some(answer);
            }
            _ => refused = Some(item),
        }
    }
    let Some(attributes) = attributes else {
        return Err(unreadable(&"there are no attributes"));
    };
    let named = attributes.iter().find_map(|a| match a.value {
        AttributeValue::ObjectType(object_type) => Some(object_type),
        _ => None,
    });
    let destroyed = attributes.state().is_some_and(lifecycle::is_destroyed);
    let (object_type, object) = match (got, named) {
        (Some(got), _) => (got.object_type, Some(got.object)),
        // Its tombstone.
        (None, Some(named)) if destroyed => (named, None),
        _ => {
            return Err(refused.map_or_else(
                || unreadable(&"there is no object"),
                |refused| refusal(sought, refused),
            ));
        }
    };
    let identifier = sought.identifier.clone();
    Ok(FetchedObject::Object(Box::new(FetchedContent {
        identifier,
        object_type,
        attributes,
        object,
        copy: None,
    })))
}

fn refusal(sought: &Sought, item: &ResponseItem) -> ObjectResult {
    let message = item
        .result_message
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    // The server has listed it a moment ago.
    let gone = is_absent(item.result_reason);
    if gone && sought.why == Why::Again {
        let message =
            Some("the server does not have it any more: what is held of it is kept".to_owned());
        return ObjectResult {
            reason: item.result_reason,
            message,
            ..ObjectResult::new(&sought.identifier, Outcome::Skipped)
        };
    }
    if gone && sought.why == Why::Located {
        let message = Some(format!("the server does not have it any more: {message}"));
        return ObjectResult {
            reason: item.result_reason,
            message,
            ..ObjectResult::new(&sought.identifier, Outcome::Skipped)
        };
    }
    ObjectResult::failed(&sought.identifier, item.result_reason, message)
}

/// Whether an answer says that there is no such object.
pub(crate) fn is_absent(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(Reason::ITEM_NOT_FOUND | Reason::OBJECT_NOT_FOUND)
    )
}
