//! Ping, Log, Interop and Set Endpoint Role: operations on the server itself.

use super::Operations;
use keyferry_kmip::spec::{EndpointRole, InteropFunction};
use keyferry_kmip::{
    Cause, Escaped, Failure, InteropRequest, InteropResponse, LogRequest, LogResponse, PingRequest,
    PingResponse, RequestItem, SetEndpointRoleRequest, SetEndpointRoleResponse, escaped,
};
use keyferry_s2s::{Answered, Ask};
use keyferry_ttlv::Extra;

/// Ping (KMIP 2.1 §6.1.36, since 2.0).
pub(super) fn ping(ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    item.payload::<PingRequest>(ask.cx)?;
    Answered::answer(&PingResponse { extra: Extra::NONE }, ask.cx)
}

/// The number of characters of a client's message that are logged.
const LOGGED: usize = 1000;

/// Log (KMIP 2.1 §6.1.29, since 2.0): writes the client's message to the server's log, with control characters escaped.
pub(super) fn log(ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: LogRequest = item.payload(ask.cx)?;
    let shown = escaped(request.log_message.chars().take(LOGGED).collect());
    tracing::info!(caller = %Escaped(&ask.caller.name), message = shown, "a client's message");
    Answered::answer(&LogResponse { extra: Extra::NONE }, ask.cx)
}

/// Interop (KMIP 2.1 §6.1.26, since 2.0), where it is switched on: logs Begin and End. Nothing is reset.
pub(super) fn interop(
    ops: &Operations,
    ask: &Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    if !ops.settings.interop {
        return Err(Failure::new(
            Cause::OperationNotSupported,
            "Interop is not switched on",
        ));
    }
    let request: InteropRequest = item.payload(ask.cx)?;
    if !matches!(
        request.interop_function,
        InteropFunction::BEGIN | InteropFunction::END
    ) {
        let why = format_args!(
            "the Interop Function {} is not supported",
            request.interop_function
        );
        return Err(Failure::new(Cause::FeatureNotSupported, why));
    }
    tracing::info!(caller = %Escaped(&ask.caller.name), function = %request.interop_function, "interop");
    Answered::answer(&InteropResponse { extra: Extra::NONE }, ask.cx)
}

/// Set Endpoint Role (KMIP 2.1 §6.1.54, since 2.0), where the connection is not turned round by `Server::turn`: this server stays the server.
pub(super) fn set_endpoint_role(ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: SetEndpointRoleRequest = item.payload(ask.cx)?;
    if request.endpoint_role != EndpointRole::SERVER {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "this server does not become a client on this connection",
        ));
    }
    Answered::answer(
        &SetEndpointRoleResponse {
            endpoint_role: EndpointRole::SERVER,
            extra: Extra::NONE,
        },
        ask.cx,
    )
}
