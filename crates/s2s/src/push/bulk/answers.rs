//! Answers to a bulk session: what the peer can do, and what became of each object.

use crate::error::{Error, ErrorKind, Result};
use crate::outgoing::item::Strategy;
use crate::push::bulk::{Bulk, Outgoing, Peer};
use crate::report::{ObjectResult, Outcome};
use crate::transfer::plan::Planned;
use crate::wire::copy::{Held, KeyferryExtension, answered_outcome};
use crate::wire::server_information;
use keyferry_kmip::spec::{Operation, ResultReason, tag};
use keyferry_kmip::{
    AttributeReference, AttributeReferences, GetAttributesRequest, ImportResponse, QueryResponse,
    RequestItem, ResponseItem, ResponseMessage, Text, UniqueIdentifier, context, extension as x,
};
use keyferry_ttlv::{Extra, Version};

/// What a peer answers to Query.
#[derive(Debug)]
pub(super) struct PeerAnswer {
    /// Whether it is a keyferry server.
    pub(super) keyferry: bool,
    /// The incarnation of its store, which only a keyferry server tells.
    pub(super) incarnation: Option<Vec<u8>>,
    /// The server id, which only a keyferry server tells.
    pub(super) server: Option<Text>,
    /// The instance of the server, which only a keyferry server tells.
    pub(super) instance: Option<Vec<u8>>,
    pub(super) operations: Vec<Operation>,
}

impl PeerAnswer {
    /// Reads the answer, and fails unless the peer can do what the strategy needs.
    pub(super) fn read(
        strategy: Strategy,
        version: Version,
        response: &ResponseMessage,
    ) -> Result<PeerAnswer> {
        let answer = response.batch.first().filter(|item| item.is_success());
        let Some(answer) = answer else {
            let why = response
                .batch
                .first()
                .and_then(|item| item.result_message.as_ref())
                .map_or("no reason given", |text| text.as_str());
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the peer does not answer Query in {version}: {why}"),
            ));
        };
        let query: QueryResponse = answer.payload(context(version)).map_err(Error::protocol)?;
        if !query.operations.contains(&strategy.operation()) {
            return Err(Error::new(
                ErrorKind::Peer,
                format_args!("the peer does not offer {}", strategy.operation()),
            ));
        }
        let keyferry = query
            .vendor_identification
            .as_ref()
            .is_some_and(|vendor| *vendor == x::VENDOR);
        let told = keyferry.then_some(&query);
        Ok(PeerAnswer {
            keyferry,
            incarnation: told.and_then(|query| server_information::incarnation(query, version)),
            server: told.and_then(|query| server_information::server(query, version)),
            instance: told.and_then(|query| server_information::instance(query, version)),
            operations: query.operations,
        })
    }
}

impl Bulk {
    /// What became of an object that was sent, or would become of it.
    pub(super) fn result_of(
        &self,
        outgoing: &Outgoing,
        item: &ResponseItem,
    ) -> Result<ObjectResult> {
        let only_checked =
            self.ledger.dry_run && matches!(self.peer, Peer::Known { keyferry: false });
        let identifier = &outgoing.identifier;
        let mut result = if only_checked {
            result_of_existence_check(identifier, item)
        } else {
            result_of_answer(identifier, item, self.options.version)?
        };
        if outgoing.without_material && item.result_reason == Some(ResultReason::MISSING_DATA) {
            return Ok(ObjectResult {
                message: Some("the peer does not hold it, and may not have it".to_owned()),
                ..ObjectResult::new(identifier, Outcome::Skipped)
            });
        }
        result.lost = if result.outcome.is_failure() {
            Vec::new()
        } else {
            outgoing.lost.clone()
        };
        Ok(result)
    }
}

/// Makes the item that asks whether the peer has an object of this identifier.
pub(super) fn existence_check(identifier: &Text, version: Version) -> Result<RequestItem> {
    let references = AttributeReferences(vec![AttributeReference::Standard(tag::OBJECT_TYPE)]);
    let unique_identifier = Some(UniqueIdentifier::Text(identifier.clone()));
    RequestItem::new(
        &GetAttributesRequest {
            unique_identifier,
            references,
            extra: Extra::NONE,
        },
        context(version),
    )
    .map_err(Error::encode)
}

/// Reads what would become of an object from the answer to an [`existence_check`].
pub(super) fn result_of_existence_check(identifier: &Text, item: &ResponseItem) -> ObjectResult {
    match item.result_reason {
        Some(ResultReason::ITEM_NOT_FOUND | ResultReason::OBJECT_NOT_FOUND) => {
            ObjectResult::new(identifier.as_str(), Outcome::Created)
        }
        _ => ObjectResult::failed(
            identifier.as_str(),
            Some(ResultReason::OBJECT_ALREADY_EXISTS),
            "the peer has an object of this identifier",
        ),
    }
}

/// Reads what became of an object from the answer to its item.
pub(super) fn result_of_answer(
    identifier: &Text,
    item: &ResponseItem,
    version: Version,
) -> Result<ObjectResult> {
    if !item.is_success() {
        let message = item
            .result_message
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        return Ok(ObjectResult::failed(
            identifier.as_str(),
            item.result_reason,
            message,
        ));
    }
    let outcome = answered_outcome(item).map_err(Error::protocol)?;
    if let Some(unknown @ Outcome::Unknown(_)) = outcome {
        let message = format!("the peer's build is a later one: the outcome it tells is {unknown}");
        return Ok(ObjectResult {
            outcome: unknown,
            ..ObjectResult::failed(identifier.as_str(), None, message)
        });
    }
    let mut result = ObjectResult::new(identifier.as_str(), outcome.unwrap_or(Outcome::Created));
    if item.operation == Some(Operation::IMPORT) && item.response_payload.is_some() {
        let answer: ImportResponse = item.payload(context(version)).map_err(Error::protocol)?;
        result.target = answer
            .unique_identifier
            .as_text()
            .filter(|there| **there != **identifier)
            .map(str::to_owned);
        if result.target.is_some() && result.outcome == Outcome::Created {
            result.outcome = Outcome::Renamed;
        }
    }
    Ok(result)
}

/// Reads what the peer holds of an object from the answer to a dry run.
pub(super) fn held_at_peer(item: &ResponseItem) -> Result<Held> {
    let held = KeyferryExtension::find(&item.message_extension)
        .map_err(Error::protocol)?
        .held;
    held.ok_or_else(|| {
        Error::new(
            ErrorKind::Plan,
            "the peer does not tell what it holds: nothing can be planned for it",
        )
    })
}

/// The record of a plan for an object that was sent as a dry run.
pub(super) fn planned_from_answer(
    outgoing: Outgoing,
    result: &ObjectResult,
    item: Option<&ResponseItem>,
) -> Result<Planned> {
    let held = match item {
        Some(item) if !result.outcome.is_failure() => Some(held_at_peer(item)?),
        _ => None,
    };
    Ok(Planned {
        id: outgoing.id,
        identifier: outgoing.identifier,
        digest: outgoing.digest,
        held,
        outcome: result.outcome,
        extra: Extra::NONE,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::Counts;

    #[test]
    fn an_outcome_of_a_later_build_is_not_taken_for_created() {
        let extension = KeyferryExtension {
            outcome: Some(Outcome::Unknown(99)),
            ..KeyferryExtension::default()
        };
        let payload = QueryResponse::default();
        let item = ResponseItem {
            message_extension: Some(extension.extension(false).unwrap()),
            ..ResponseItem::success(&payload, context(Version::V2_1)).unwrap()
        };
        let result = result_of_answer(&"o".into(), &item, Version::V2_1).unwrap();
        assert_eq!(result.outcome, Outcome::Unknown(99));
        assert!(result.message.unwrap().contains("unknown (99)"));
        let mut counts = Counts::default();
        counts.count(result.outcome);
        assert_eq!((counts.created, counts.failed, counts.asked), (0, 1, 1));
        assert!(counts.add_up());
    }
}
