//! What a peer's answer says about one object: what it shows, or why it refuses.

use crate::report::ObjectResult;
use keyferry_kmip::spec::ResultReason;
use keyferry_kmip::{Attributes, ResponseItem, Text};

/// The answer to Get Attributes.
pub(super) enum Reading<'a> {
    Shown(Attributes),
    Refused(Refusal<'a>),
}

/// A refusal: the item that says so, or nothing where the peer did not answer about the object.
#[derive(Clone, Copy)]
pub(super) struct Refusal<'a>(pub(super) Option<&'a ResponseItem>);

impl Refusal<'_> {
    pub(super) fn reason(self) -> Option<ResultReason> {
        self.0.and_then(|item| item.result_reason)
    }

    pub(super) fn message(self) -> String {
        self.0
            .and_then(|item| item.result_message.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Whether the peer says that it has no such object.
    pub(super) fn says_absent(self) -> bool {
        matches!(
            self.reason(),
            Some(ResultReason::ITEM_NOT_FOUND | ResultReason::OBJECT_NOT_FOUND)
        )
    }

    /// The same, where silence counts as well.
    pub(super) fn says_absent_or_nothing(self) -> bool {
        self.0.is_none() || self.says_absent()
    }

    pub(super) fn says_existing(self) -> bool {
        self.reason() == Some(ResultReason::OBJECT_ALREADY_EXISTS)
    }

    pub(super) fn result(self, identifier: &Text) -> ObjectResult {
        ObjectResult::failed(identifier, self.reason(), self.message())
    }
}
