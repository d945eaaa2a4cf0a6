//! This module writes the log line of a request.

use super::message::{identifiers, operation_name};
use crate::request::Request;
use keyferry_kmip::spec::ResultStatus;
use keyferry_kmip::{Escaped, Now, ResponseMessage, escaped};
use keyferry_ttlv::Frame;
use std::time::Duration;

/// The most operations of a batch that a log line names.
const LOGGED: usize = 8;

/// Logs one line for a request, without any of its secrets: of a batch the operations, and the reason why the first failed item failed.
/// Requests that were answered together all took the same time.
pub(super) fn log(request: &Request, answer: &Frame, now: Now, duration: Option<Duration>) {
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let Ok(response) = ResponseMessage::from_frame(answer) else {
        return;
    };
    let names: Vec<String> = request
        .message
        .batch
        .iter()
        .take(LOGGED)
        .map(|item| operation_name(item.operation))
        .collect();
    let failed = response
        .batch
        .iter()
        .find(|item| item.result_status == ResultStatus::OPERATION_FAILED);
    let result = match failed {
        None => "Success".to_owned(),
        Some(item) => item.result_reason.map_or_else(
            || item.result_status.to_string(),
            |reason| reason.to_string(),
        ),
    };
    // Logged as a quoted text: what does not print in it is escaped here, whatever the subscriber does.
    let identifier = response.batch.iter().flat_map(identifiers).next();
    let identifier = escaped(identifier.as_deref().unwrap_or_default().to_owned());
    tracing::info!(
        peer = %Escaped(&request.caller.name),
        version = %request.version,
        operation = names.join(", "),
        items = request.message.batch.len(),
        identifier,
        result,
        time = now.wall.0,
        micros = duration.map(|duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)),
        "request"
    );
}
