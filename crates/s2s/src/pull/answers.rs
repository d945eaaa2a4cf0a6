//! What a server's answers show of one object.

use crate::pull::{Sought, Why};
use crate::report::{ObjectResult, Outcome};
use crate::wire::copy::{Copy, KeyferryExtension};
use keyferry_kmip::spec::{AttributeValue, ObjectType, Operation, ResultReason as Reason};
use keyferry_kmip::{
    Attributes, ExportResponse, GetAttributesResponse, GetResponse, Object, Payload, ResponseItem,
    Text, UniqueIdentifier, lifecycle,
};
use keyferry_ttlv::Context;

/// What a server showed of an object that was asked for.
pub(super) enum FetchedObject {
    /// The object.
    Object(Box<FetchedContent>),
    /// What became of the object without its content.
    ObjectResult(ObjectResult),
}

/// An object as the server showed it.
pub(super) struct FetchedContent {
    pub(super) identifier: Text,
    pub(super) object_type: ObjectType,
    pub(super) attributes: Attributes,
    pub(super) object: Option<Object>,
    pub(super) copy: Option<Copy>,
}

/// The answers about one object, while they are read.
struct Reading<'a> {
    sought: &'a Sought,
    cx: Context,
}

/// Reads the answers about one object; the error is what became of it without.
pub(super) fn fetched_object(
    sought: &Sought,
    items: &[ResponseItem],
    cx: Context,
) -> Result<FetchedObject, ObjectResult> {
    let reading = Reading { sought, cx };
    if let Some(refused) = items.iter().find(|item| {
        !item.is_success()
            && matches!(
                item.operation,
                Some(Operation::GET_ATTRIBUTES | Operation::EXPORT) | None
            )
    }) {
        return Err(reading.refusal(refused));
    }
    let content = match items
        .iter()
        .find(|item| item.operation == Some(Operation::EXPORT))
    {
        Some(exported) => reading.exported(exported)?,
        None => reading.got(items)?,
    };
    Ok(FetchedObject::Object(Box::new(content)))
}

impl Reading<'_> {
    /// What an Export shows.
    fn exported(&self, item: &ResponseItem) -> Result<FetchedContent, ObjectResult> {
        let answer: ExportResponse = self.payload(item)?;
        self.check_identifier(&answer.unique_identifier)?;
        let copy = KeyferryExtension::find(&item.message_extension)
            .map_err(|e| self.unreadable(&e))?
            .copy;
        Ok(FetchedContent {
            identifier: self.sought.identifier.clone(),
            object_type: answer.object_type,
            attributes: answer.attributes,
            object: answer.object,
            copy,
        })
    }

    /// What a Get and a Get Attributes show. A destroyed object has attributes alone.
    fn got(&self, items: &[ResponseItem]) -> Result<FetchedContent, ObjectResult> {
        let (mut attributes, mut got, mut refused) = (None, None, None);
        for item in items {
            match item.operation {
                Some(Operation::GET_ATTRIBUTES) => {
                    let answer: GetAttributesResponse = self.payload(item)?;
                    self.check_identifier(&answer.unique_identifier)?;
                    attributes = Some(answer.attributes);
                }
                Some(Operation::GET) if item.is_success() => {
                    let answer: GetResponse = self.payload(item)?;
                    self.check_identifier(&answer.unique_identifier)?;
                    got = Some(answer);
                }
                _ => refused = Some(item),
            }
        }
        let Some(attributes) = attributes else {
            return Err(self.unreadable(&"there are no attributes"));
        };
        let named = attributes.iter().find_map(|a| match a.value {
            AttributeValue::ObjectType(object_type) => Some(object_type),
            _ => None,
        });
        let is_destroyed = attributes.state().is_some_and(lifecycle::is_destroyed);
        let (object_type, object) = match (got, named) {
            (Some(got), _) => (got.object_type, Some(got.object)),
            (None, Some(named)) if is_destroyed => (named, None),
            _ => {
                return Err(refused.map_or_else(
                    || self.unreadable(&"there is no object"),
                    |refused| self.refusal(refused),
                ));
            }
        };
        Ok(FetchedContent {
            identifier: self.sought.identifier.clone(),
            object_type,
            attributes,
            object,
            copy: None,
        })
    }

    fn payload<P: Payload>(&self, item: &ResponseItem) -> Result<P, ObjectResult> {
        item.payload(self.cx).map_err(|e| self.unreadable(&e))
    }

    /// Fails unless the server answered about the object that it was asked for.
    fn check_identifier(&self, answered: &UniqueIdentifier) -> Result<(), ObjectResult> {
        match answered.as_text() {
            Some(text) if text == self.sought.identifier.as_str() => Ok(()),
            _ => Err(ObjectResult::failed(
                &self.sought.identifier,
                None,
                "the server answered about another object",
            )),
        }
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> ObjectResult {
        ObjectResult::failed(
            &self.sought.identifier,
            None,
            format!("the answer can't be read: {why}"),
        )
    }

    /// What a refusal makes of the object. One that was listed a moment ago, or is asked for again, and is not there any more has not failed.
    fn refusal(&self, item: &ResponseItem) -> ObjectResult {
        let identifier = &self.sought.identifier;
        let message = item
            .result_message
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = match self.sought.why {
            Why::Again if is_absent(item.result_reason) => {
                "the server does not have it any more: what is held of it is kept".to_owned()
            }
            Why::Located if is_absent(item.result_reason) => {
                format!("the server does not have it any more: {message}")
            }
            _ => return ObjectResult::failed(identifier, item.result_reason, message),
        };
        ObjectResult {
            reason: item.result_reason,
            message: Some(message),
            ..ObjectResult::new(identifier, Outcome::Skipped)
        }
    }
}

/// Whether an answer says that there is no such object.
pub(super) fn is_absent(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(Reason::ITEM_NOT_FOUND | Reason::OBJECT_NOT_FOUND)
    )
}
